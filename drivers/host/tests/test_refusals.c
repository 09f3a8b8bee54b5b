// SPDX-License-Identifier: MIT
/* The system calls of a worker: those that it needs work, and any other kills it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shut_in.h"
#include "tap.h"

/* ---- Calls that kill. ---- */

#define REFUSED(name, call) \
	static int name(void) \
	{ \
		return (call) ? 1 : 0; \
	}

static struct iovec one = { &abstract, 1 };
static struct rlimit some;

REFUSED(open_a_file, open("/etc/passwd", O_RDONLY))
REFUSED(open_by_folder, openat(have.folder, "passwd", O_RDONLY))
REFUSED(open_own_descriptor, open("/proc/self/fd/0", O_RDONLY))
REFUSED(open_with_openat2, syscall(SYS_openat2, AT_FDCWD, "/", NULL, 0))
REFUSED(make_a_socket, socket(AF_UNIX, SOCK_STREAM, 0))
REFUSED(make_a_pair, socketpair(AF_UNIX, SOCK_STREAM, 0, have.stream))
REFUSED(connect_a_socket, connect(have.tcp, (void *)&loopback, sizeof(loopback)))
REFUSED(bind_a_socket, bind(have.tcp, (void *)&loopback, sizeof(loopback)))
REFUSED(listen_on_it, listen(have.tcp, 1))
REFUSED(send_to_somebody,
	sendto(have.local, "", 1, 0, (void *)&abstract, abstract_len))
REFUSED(set_a_socket_option, setsockopt(have.tcp, SOL_SOCKET, SO_DEBUG, &some, 4))
REFUSED(ask_another_option, getsockopt(have.tcp, SOL_SOCKET, SO_TYPE, &some, &abstract_len))
REFUSED(become_a_program, execl("/bin/true", "true", (char *)NULL))
REFUSED(make_a_process, fork())
REFUSED(make_a_thread, syscall(SYS_clone, CLONE_VM, NULL, NULL, NULL, NULL))
REFUSED(make_one_with_clone3, syscall(SYS_clone3, NULL, 0))
REFUSED(trace_the_parent, ptrace(PTRACE_SEIZE, have.other, NULL, NULL))
REFUSED(read_its_memory, process_vm_readv(have.other, &one, 1, &one, 1, 0))
REFUSED(hold_a_process, syscall(SYS_pidfd_open, have.other, 0))
REFUSED(kill_the_parent, kill(have.other, 0))
REFUSED(kill_itself, kill(getpid(), SIGTERM))
REFUSED(tgkill_the_parent, syscall(SYS_tgkill, have.other, have.other, SIGABRT))
REFUSED(tgkill_with_another_signal, syscall(SYS_tgkill, getpid(), gettid(), SIGTERM))
REFUSED(map_memory_to_run, mmap(NULL, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
REFUSED(make_memory_run, mprotect(have.window, 4096, PROT_READ | PROT_EXEC))
REFUSED(make_memory_run_by_key, syscall(SYS_pkey_mprotect, have.window, 4096, PROT_EXEC, 0))
REFUSED(mount_something, mount("x", "/", "tmpfs", 0, ""))
REFUSED(leave_the_root, chroot("/"))
REFUSED(change_the_folder, fchdir(have.folder))
REFUSED(make_a_namespace, unshare(CLONE_NEWUSER))
REFUSED(enter_a_namespace, setns(have.folder, 0))
REFUSED(control_itself, prctl(PR_SET_DUMPABLE, 1))
REFUSED(become_root, setresuid(0, 0, 0))
REFUSED(raise_a_limit, setrlimit(RLIMIT_NOFILE, &some))
REFUSED(raise_a_limit_of_another, prlimit(have.other, RLIMIT_NOFILE, &some, NULL))
REFUSED(duplicate_a_descriptor, fcntl(have.bell, F_DUPFD, 0))
REFUSED(take_a_lock_by_process, fcntl(have.image, F_SETLK, &some))
REFUSED(control_a_device, ioctl(0, TIOCSTI, "x"))
REFUSED(make_a_ring, syscall(SYS_io_uring_setup, 4, &some))
REFUSED(register_with_a_ring, syscall(SYS_io_uring_register, have.ring, 0, NULL, 0))
REFUSED(make_memory_to_share, memfd_create("x", 0))
REFUSED(change_a_file_size, ftruncate(have.image, 0))
REFUSED(load_a_program, syscall(SYS_bpf, 0, NULL, 0))
REFUSED(catch_page_faults, syscall(SYS_userfaultfd, 0))
REFUSED(count_events, syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0))
REFUSED(touch_keys, syscall(SYS_keyctl, 0, 0, 0, 0, 0))
REFUSED(make_a_timer, timerfd_create(CLOCK_MONOTONIC, 0))
REFUSED(make_a_call_of_32_bit_pointers, syscall(0x40000000 + SYS_getpid))

#define TRY(name) { #name, name }

static const struct {
	const char *name;
	int (*act)(void);
} refused[] = {
	TRY(open_a_file), TRY(open_by_folder), TRY(open_own_descriptor), TRY(open_with_openat2),
	TRY(make_a_socket), TRY(make_a_pair), TRY(connect_a_socket), TRY(bind_a_socket),
	TRY(listen_on_it), TRY(send_to_somebody), TRY(set_a_socket_option), TRY(ask_another_option),
	TRY(become_a_program), TRY(make_a_process), TRY(make_a_thread), TRY(make_one_with_clone3),
	TRY(trace_the_parent), TRY(read_its_memory), TRY(hold_a_process), TRY(kill_the_parent),
	TRY(kill_itself), TRY(tgkill_the_parent), TRY(tgkill_with_another_signal),
	TRY(map_memory_to_run), TRY(make_memory_run), TRY(make_memory_run_by_key),
	TRY(mount_something), TRY(leave_the_root), TRY(change_the_folder), TRY(make_a_namespace),
	TRY(enter_a_namespace), TRY(control_itself), TRY(become_root), TRY(raise_a_limit),
	TRY(raise_a_limit_of_another), TRY(duplicate_a_descriptor),
	TRY(take_a_lock_by_process), TRY(control_a_device), TRY(make_a_ring),
	TRY(register_with_a_ring), TRY(make_memory_to_share), TRY(change_a_file_size),
	TRY(load_a_program), TRY(catch_page_faults), TRY(count_events), TRY(touch_keys),
	TRY(make_a_timer),
#ifdef __x86_64__
	TRY(make_a_call_of_32_bit_pointers),
#endif
};

static bool test_every_other_system_call_kills_the_worker(void)
{
	bool all = true;
	uint32_t i;
	int status;

	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		status = try_shut_in(refused[i].act, SHUT_IN);
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
			continue;
		fprintf(stderr, "# %s: status %#x\n", refused[i].name, status);
		all = false;
	}
	CHECK(all);
	return true;
}

static bool test_the_filter_holds_for_a_worker_of_an_ordinary_user(void)
{
	int status = try_shut_in(open_a_file, AS_USER);

	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	return true;
}

static int gate;

static void *open_when_told(void *arg)
{
	while (!__atomic_load_n(&gate, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &gate, 0 /* FUTEX_WAIT */, 0, NULL, NULL, 0);
	open_a_file();
	_exit(arg ? 1 : 2);
}

/* As a class with a pool does it: after the namespaces, before the filter. */
static int thread_before_the_filter(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, open_when_told, NULL))
		return 96;
	vbus_seccomp(&bus);
	__atomic_store_n(&gate, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &gate, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0);
	for (;;)
		syscall(SYS_futex, &gate, 0, 1, NULL, NULL, 0);
}

static bool test_the_filter_reaches_a_thread_that_was_there_before(void)
{
	int status = try_shut_in(thread_before_the_filter, NO_FILTER);

	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	return true;
}

static int give_up(void)
{
	abort();
}

static bool test_a_worker_can_still_abort(void)
{
	int status = try_shut_in(give_up, SHUT_IN);

	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	return true;
}

/* ---- Calls that work. ---- */

static int loop_works(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct itimerspec soon = { .it_value.tv_nsec = 1 };
	struct timespec now;
	uint64_t word = 1;

	WORKS(1, write(have.bell, &word, 8) == 8);
	WORKS(2, !epoll_ctl(have.epoll, EPOLL_CTL_ADD, have.bell, &event));
	WORKS(3, epoll_wait(have.epoll, &event, 1, -1) == 1);
	WORKS(4, read(have.bell, &word, 8) == 8);
	WORKS(5, !timerfd_settime(have.timer, 0, &soon, NULL));
	WORKS(6, !syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now));
	WORKS(7, getrandom(&word, sizeof(word), 0) == 8);
	have.window[5] = 7;
	WORKS(8, have.window[5] == 7);
	WORKS(9, mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, have.memory, 0) != MAP_FAILED);
	return 0;
}

static int heap_works(void)
{
	uint32_t i;
	char *at;

	for (i = 0; i < 24; i++) {
		at = malloc((size_t)1 << i);
		WORKS(20, at);
		memset(at, 1, (size_t)1 << i);
		free(at);
	}
	return 0;
}

static int sockets_work(void)
{
	struct ucred who;
	socklen_t len = sizeof(who);
	struct iovec io = { &who, 1 };
	struct msghdr head = { .msg_iov = &io, .msg_iovlen = 1 };
	int s;

	WORKS(30, send(have.stream[0], "x", 1, MSG_DONTWAIT) == 1);
	WORKS(31, recv(have.stream[1], &who, 1, 0) == 1);
	WORKS(32, sendmsg(have.messages[0], &head, 0) == 1);
	WORKS(33, recvmsg(have.messages[1], &head, MSG_CMSG_CLOEXEC) == 1);
	s = accept4(have.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	WORKS(34, s >= 0);
	/* The test is root, and the worker can tell. */
	WORKS(35, !getsockopt(s, SOL_SOCKET, SO_PEERCRED, &who, &len));
	WORKS(36, !who.uid);
	WORKS(37, !close(s));
	return 0;
}

static int image_works(void)
{
	struct flock lock = { .l_type = F_WRLCK };
	char byte = 1;
	struct iovec io = { &byte, 1 };
	struct stat st;

	WORKS(50, !fcntl(have.image, F_OFD_SETLK, &lock));
	lock.l_type = F_WRLCK;
	WORKS(51, !fcntl(have.image, F_OFD_GETLK, &lock));
	WORKS(52, fcntl(have.image, F_GETFL) >= 0);
	WORKS(53, pwritev(have.image, &io, 1, 9) == 1);
	WORKS(54, preadv(have.image, &io, 1, 9) == 1);
	WORKS(55, !fdatasync(have.image) || errno == EINVAL);
	WORKS(56, !fallocate(have.image, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	WORKS(57, !fstat(have.image, &st) && st.st_size == 1 << 20);
	WORKS(58, have.ring < 0 || !syscall(SYS_io_uring_enter, have.ring, 0, 0, 0, NULL, 0));
	return 0;
}

static bool test_what_a_worker_needs_works(void)
{
	CHECK(exits_with(try_shut_in(loop_works, SHUT_IN), 0));
	CHECK(exits_with(try_shut_in(heap_works, SHUT_IN), 0));
	CHECK(exits_with(try_shut_in(image_works, SHUT_IN), 0));
	CHECK(exits_with(try_shut_in(loop_works, AS_USER), 0));
	return true;
}

static bool test_a_worker_can_tell_root_from_everybody_else_who_connects(void)
{
	CHECK(listen_for_workers());
	CHECK(exits_with(try_shut_in(sockets_work, SHUT_IN), 0));
	close(have.listener);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_every_other_system_call_kills_the_worker),
	TEST(test_the_filter_holds_for_a_worker_of_an_ordinary_user),
	TEST(test_the_filter_reaches_a_thread_that_was_there_before),
	TEST(test_a_worker_can_still_abort),
	TEST(test_what_a_worker_needs_works),
	TEST(test_a_worker_can_tell_root_from_everybody_else_who_connects),
};

int main(void)
{
	if (!can_shut_in())
		return 0;
	have.other = getpid();
	return TAP_RUN(tests, NULL, NULL);
}
