// SPDX-License-Identifier: MIT
/* The layers below the filter of system calls, tried without it: each by what it alone refuses. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shut_in.h"
#include "tap.h"
#include "userns.h"

static struct iovec one = { &abstract, 1 };

static int no_file(void)
{
	WORKS(1, open("/etc/passwd", O_RDONLY) < 0 && errno == ENOENT);
	WORKS(2, open("/proc/self/maps", O_RDONLY) < 0);
	WORKS(3, open("/new", O_CREAT | O_WRONLY, 0600) < 0);
	WORKS(4, mkdir("/new", 0700) < 0);
	WORKS(5, open("/", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES);
	return 0;
}

/* The root is empty, but a folder that was left open is not: that is for Landlock. */
static int no_file_by_folder(void)
{
	WORKS(1, openat(have.folder, "passwd", O_RDONLY) < 0 && errno == EACCES);
	WORKS(2, openat(have.folder, ".", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES);
	WORKS(3, mkdirat(have.folder, "vbus-test", 0700) < 0 && errno == EACCES);
	return 0;
}

static int no_network(void)
{
	struct if_nameindex *all = if_nameindex();

	WORKS(1, all && all[0].if_index && !all[1].if_index);
	WORKS(2, socket(AF_PACKET, SOCK_RAW, 0) < 0 && errno == EPERM);
	return 0;
}

/* Sockets of the host's network namespace: that is for Landlock as well. */
static int no_connection(void)
{
	WORKS(1, connect(have.tcp, (void *)&loopback, sizeof(loopback)) < 0 && errno == EACCES);
	WORKS(2, bind(have.tcp, (void *)&loopback, sizeof(loopback)) < 0 && errno == EACCES);
	WORKS(3, connect(have.local, (void *)&abstract, abstract_len) < 0 && errno == EPERM);
	return 0;
}

static int no_right(void)
{
	WORKS(1, setresuid(0, 0, 0) < 0);
	WORKS(2, mount("x", "/", "tmpfs", 0, "") < 0 && errno == EPERM);
	WORKS(3, sethostname("x", 1) < 0 && errno == EPERM);
	WORKS(4, prctl(PR_CAPBSET_READ, 21 /* CAP_SYS_ADMIN */) == 0);
	WORKS(5, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	WORKS(6, !prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
	return 0;
}

static bool can_not_map(size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	       MAP_FAILED;
}

static int limits_hold(void)
{
	rlim_t most = 0;
	void *much;

	while (dup(have.bell) >= 0)
		most++;
	WORKS(1, errno == EMFILE && most > 150 && most < 256);
	/* The largest window, and more than a worker ever needs. */
	WORKS(2, !can_not_map(256u << 20));
	WORKS(3, can_not_map(4ull << 30));
	/* Rings of images are locked; what is more than all of them together is not. */
	much = mmap(NULL, 32u << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	WORKS(4, much != MAP_FAILED && mlock(much, 32u << 20) < 0);
	for (most = 0; most < 200 && fork() > 0; most++)
		;
	/* The children come here as well. */
	return most >= 200 ? 5 : 0;
}

static bool test_no_file_is_left_in_sight(void)
{
	CHECK(exits_with(try_shut_in(no_file, NO_FILTER), 0));
	CHECK(exits_with(try_shut_in(no_file, NO_FILTER | AS_USER), 0));
	return true;
}

static bool test_a_folder_that_was_left_open_leads_nowhere(void)
{
	CHECK(exits_with(try_shut_in(no_file_by_folder, NO_FILTER), 0));
	CHECK(exits_with(try_shut_in(no_file_by_folder, NO_FILTER | AS_USER), 0));
	return true;
}

static bool test_no_network_is_left_but_an_empty_one(void)
{
	CHECK(exits_with(try_shut_in(no_network, NO_FILTER), 0));
	CHECK(exits_with(try_shut_in(no_network, NO_FILTER | AS_USER), 0));
	return true;
}

static bool test_a_socket_that_was_left_open_reaches_nobody(void)
{
	CHECK(listen_for_workers());
	CHECK(exits_with(try_shut_in(no_connection, NO_FILTER), 0));
	CHECK(exits_with(try_shut_in(no_connection, NO_FILTER | AS_USER), 0));
	close(have.listener);
	return true;
}

static bool test_no_right_is_left_and_none_comes_back(void)
{
	CHECK(exits_with(try_shut_in(no_right, NO_FILTER), 0));
	CHECK(exits_with(try_shut_in(no_right, NO_FILTER | AS_USER), 0));
	return true;
}

static bool test_the_limits_hold(void)
{
	CHECK(exits_with(try_shut_in(limits_hold, NO_FILTER), 0));
	return true;
}

/* ---- Two workers of one user. ---- */

static int reach_the_other(void)
{
	WORKS(1, ptrace(PTRACE_SEIZE, have.other, NULL, NULL) < 0 && errno == EPERM);
	WORKS(2, kill(have.other, 0) < 0 && errno == EPERM);
	WORKS(3, process_vm_readv(have.other, &one, 1, &one, 1, 0) < 0 && errno == EPERM);
	return 0;
}

static bool reaches_the_other(enum shut_in how)
{
	int ready[2], status;
	char word;
	pid_t pid;

	if (pipe(ready))
		return true;
	pid = fork();
	if (!pid) {
		shut_in(how);
		/* One that stays, and says when it is shut in. */
		if (write(ready[1], "", 1) == 1)
			pause();
		_exit(0);
	}
	close(ready[1]);
	have.other = read(ready[0], &word, 1) == 1 ? pid : 0;
	close(ready[0]);
	status = have.other ? try_shut_in(reach_the_other, how) : -1;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	have.other = getpid();
	return !exits_with(status, 0);
}

static bool test_two_workers_of_one_user_cannot_reach_each_other(void)
{
	CHECK(!reaches_the_other(NO_FILTER));
	CHECK(!reaches_the_other(NO_FILTER | AS_USER));
	return true;
}

/* ---- A system that refuses a layer. ---- */

/* A namespace of users in which no other can be made: as a sysctl has it for the whole system. */
static void enter_a_poor_system(void)
{
	if (setresgid(SHUT_IN_USER, SHUT_IN_USER, SHUT_IN_USER) ||
	    setresuid(SHUT_IN_USER, SHUT_IN_USER, SHUT_IN_USER) ||
	    prctl(PR_SET_DUMPABLE, 1) || unshare(CLONE_NEWUSER) ||
	    vbus_userns_name_self(SHUT_IN_USER, SHUT_IN_USER) ||
	    vbus_userns_write(AT_FDCWD, "/proc/sys/user/max_user_namespaces", "0"))
		_exit(97);
}

static int judge_in_a_poor_system(bool required)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		enter_a_poor_system();
		vbus_sandbox(&bus, VBUS_WORKER_NOBODY);
		bus.sandbox |= VBUS_SANDBOX_PID;	/* vbusd's part */
		vbus_seccomp(&bus);
		if (bus.sandbox & VBUS_SANDBOX_USER)
			_exit(96);
		vbus_sandbox_judge(&bus, required);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return status;
}

static bool test_a_missing_layer_is_no_obstacle_unless_all_are_required(void)
{
	CHECK(exits_with(judge_in_a_poor_system(false), 0));
	CHECK(exits_with(judge_in_a_poor_system(true), 1));
	return true;
}

static int has_all_but_vbusds_part(void)
{
	return bus.sandbox == (0x1ff & ~VBUS_SANDBOX_PID) ? 0 : 1;
}

static bool test_this_system_refuses_no_layer(void)
{
	CHECK(exits_with(try_shut_in(has_all_but_vbusds_part, SHUT_IN), 0));
	CHECK(exits_with(try_shut_in(has_all_but_vbusds_part, AS_USER), 0));
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_no_file_is_left_in_sight),
	TEST(test_a_folder_that_was_left_open_leads_nowhere),
	TEST(test_no_network_is_left_but_an_empty_one),
	TEST(test_a_socket_that_was_left_open_reaches_nobody),
	TEST(test_no_right_is_left_and_none_comes_back),
	TEST(test_the_limits_hold),
	TEST(test_two_workers_of_one_user_cannot_reach_each_other),
	TEST(test_a_missing_layer_is_no_obstacle_unless_all_are_required),
	TEST(test_this_system_refuses_no_layer),
};

int main(void)
{
	if (!can_shut_in())
		return 0;
	have.other = getpid();
	return TAP_RUN(tests, NULL, NULL);
}
