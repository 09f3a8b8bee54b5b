// SPDX-License-Identifier: MIT
/* shut_in.c - see shut_in.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shut_in.h"

_Noreturn void vbus_leave(const struct vbus_bus *bus, const char *why)
{
	(void)bus;
	fprintf(stderr, "# the sandbox ended: %s (%s)\n", why, strerror(errno));
	_exit(99);
}

struct shut_in_hand have;
struct vbus_bus bus;
struct sockaddr_in loopback = {
	.sin_family = AF_INET, .sin_port = 256, .sin_addr.s_addr = 0x100007f,
};
struct sockaddr_un abstract = { .sun_family = AF_UNIX };
socklen_t abstract_len;

static bool prepare(void)
{
	uint8_t parameters[120] = { 0 };	/* struct io_uring_params */

	have.folder = open("/etc", O_RDONLY | O_DIRECTORY);
	have.tcp = socket(AF_INET, SOCK_STREAM, 0);
	have.local = socket(AF_UNIX, SOCK_STREAM, 0);
	have.bell = eventfd(0, EFD_NONBLOCK);
	have.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	have.epoll = epoll_create1(0);
	have.memory = memfd_create("window", 0);
	have.image = memfd_create("image", 0);
	have.ring = (int)syscall(SYS_io_uring_setup, 4, parameters);
	if (have.folder < 0 || have.tcp < 0 || have.local < 0 || have.bell < 0 || have.timer < 0 ||
	    have.epoll < 0 || ftruncate(have.memory, 1 << 20) || ftruncate(have.image, 1 << 20) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, have.stream) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, have.messages))
		return false;
	have.window = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, have.memory, 0);
	return have.window != MAP_FAILED;
}

void shut_in(enum shut_in how)
{
	if (!prepare())
		_exit(98);
	if ((how & AS_USER) && !geteuid() &&
	    (setgroups(0, NULL) || setresgid(SHUT_IN_USER, SHUT_IN_USER, SHUT_IN_USER) ||
	     setresuid(SHUT_IN_USER, SHUT_IN_USER, SHUT_IN_USER) || prctl(PR_SET_DUMPABLE, 1)))
		_exit(97);
	vbus_sandbox(&bus, VBUS_WORKER_NOBODY);
	if (!(how & NO_FILTER))
		vbus_seccomp(&bus);
}

int try_shut_in(int (*act)(void), enum shut_in how)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		alarm(60);	/* whatever is wrong, it does not outlive the test by much */
		shut_in(how);
		_exit(act());
	}
	waitpid(pid, &status, 0);
	return status;
}

bool exits_with(int status, int code)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == code)
		return true;
	fprintf(stderr, "# %s %d instead of exit code %d\n",
		WIFEXITED(status) ? "exit code" : "signal",
		WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), code);
	return false;
}

bool listen_for_workers(void)
{
	struct sockaddr_un any = { .sun_family = AF_UNIX };
	int s;

	/* The kernel picks an abstract name; whoever connects waits in the queue. */
	have.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	abstract_len = sizeof(abstract);
	if (have.listener < 0 || bind(have.listener, (void *)&any, sizeof(sa_family_t)) ||
	    listen(have.listener, 8) ||
	    getsockname(have.listener, (void *)&abstract, &abstract_len))
		return false;
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return !connect(s, (void *)&abstract, abstract_len);
}

bool can_shut_in(void)
{
	if (VBUS_SANITIZED)
		puts("1..0 # SKIP sanitizers make calls of their own; see the build as shipped");
	else if (geteuid())
		puts("1..0 # SKIP the children of root and of an ordinary user need root");
	else
		return true;
	return false;
}
