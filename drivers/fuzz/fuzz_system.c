// SPDX-License-Identifier: MIT
/*
 * fuzz_system.c - the operating system as the fuzzed sources see it: by the compiler's -D they call
 * these instead, so that an input does the same each time, costs no system calls, and says which of
 * them fail.  Descriptors are numbers, each closed once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define FD_FIRST	100u
#define FDS		4096u

static uint64_t now_ns;
static bool is_open[FDS];
static uint32_t open_fds, until_failure;
static uint8_t draws;

void fuzz_clock_forward(uint32_t ms)
{
	now_ns += ms * 1000000ull;
}

void fuzz_system_begin(void)
{
	until_failure = 0;
	now_ns = 0;
	draws = 0;
}

void fuzz_system_end(void)
{
	if (open_fds)
		fuzz_found("a descriptor was left open");
}

void fuzz_fail_after(uint32_t calls)
{
	until_failure = calls;
}

bool fuzz_fails(void)
{
	if (!until_failure || --until_failure)
		return false;
	errno = EMFILE;
	return true;
}

int fuzz_open(void)
{
	uint32_t i;

	if (fuzz_fails())
		return -1;
	for (i = 0; i < FDS && is_open[i]; i++)
		;
	if (i == FDS)
		fuzz_found("there are descriptors without end");
	is_open[i] = true;
	open_fds++;
	return (int)(FD_FIRST + i);
}

int close(int fd)
{
	uint32_t i = (uint32_t)fd - FD_FIRST;

	if (i >= FDS || !is_open[i])
		fuzz_found("a descriptor is closed that is not open");
	is_open[i] = false;
	open_fds--;
	return 0;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	(void)clock;
	now_ns += 1000;
	*t = (struct timespec){
		.tv_sec = (time_t)(now_ns / 1000000000),
		.tv_nsec = (long)(now_ns % 1000000000),
	};
	return 0;
}

/* An epoch: never 0, never the one before. */
ssize_t getrandom(void *to, size_t len, unsigned int flags)
{
	(void)flags;
	draws = draws % 251 + 1;
	memset(to, draws, len);
	return (ssize_t)len;
}

int timerfd_create(int clock, int flags)
{
	(void)clock;
	(void)flags;
	return fuzz_open();
}

int timerfd_settime(int fd, int flags, const struct itimerspec *when, struct itimerspec *before)
{
	(void)fd;
	(void)flags;
	(void)before;
	if (when->it_value.tv_nsec < 0 || when->it_value.tv_nsec >= 1000000000)
		fuzz_found("a timer is set to what is no time");
	return 0;
}

int timerfd_gettime(int fd, struct itimerspec *left)
{
	(void)fd;
	*left = (struct itimerspec){ .it_value.tv_sec = fuzz_byte() & 1 };
	return 0;
}

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
	(void)epoll;
	(void)op;
	(void)fd;
	(void)event;
	return 0;
}

/* A timer that has expired. */
ssize_t read(int fd, void *to, size_t len)
{
	(void)fd;
	memset(to, 0, len);
	return fuzz_fails() ? -1 : (ssize_t)len;
}

/* Doorbells, and the log. */
ssize_t write(int fd, const void *from, size_t len)
{
	(void)fd;
	(void)from;
	return (ssize_t)len;
}

int fcntl(int fd, int what, ...)
{
	(void)fd;
	if (what == F_DUPFD_CLOEXEC)
		return fuzz_open();
	return fuzz_fails() ? -1 : 0;
}

int memfd_create(const char *name, unsigned int flags)
{
	(void)name;
	(void)flags;
	return fuzz_open();
}

int ftruncate(int fd, off_t len)
{
	(void)fd;
	(void)len;
	return fuzz_fails() ? -1 : 0;
}

/* What is mapped is memory: who forgets it leaks it. */
void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	(void)at;
	(void)prot;
	(void)flags;
	(void)fd;
	(void)offset;
	return fuzz_fails() ? MAP_FAILED : calloc(1, len);
}

int munmap(void *at, size_t len)
{
	(void)len;
	free(at);
	return 0;
}

int unlink(const char *path)
{
	(void)path;
	return 0;
}

int socket(int family, int type, int protocol)
{
	(void)family;
	(void)type;
	(void)protocol;
	return fuzz_open();
}

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
	(void)fd;
	(void)to;
	(void)len;
	return fuzz_fails() ? -1 : 0;
}

int socketpair(int family, int type, int protocol, int pair[2])
{
	(void)family;
	(void)type;
	(void)protocol;
	pair[0] = fuzz_open();
	if (pair[0] < 0)
		return -1;
	pair[1] = fuzz_open();
	if (pair[1] >= 0)
		return 0;
	close(pair[0]);
	return -1;
}

/* Who is at the other end. */
int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	struct ucred who = { .uid = fuzz_byte() };

	(void)fd;
	(void)level;
	(void)name;
	memcpy(value, &who, *len < sizeof(who) ? *len : sizeof(who));
	return 0;
}

uid_t geteuid(void)
{
	return 0;
}

/* A process has ended: when it is waited for, or when the input says so. */
int poll(struct pollfd *fds, nfds_t count, int ms)
{
	(void)fds;
	(void)count;
	return ms ? 1 : fuzz_byte() & 1;
}

pid_t waitpid(pid_t pid, int *status, int options)
{
	(void)options;
	if (status)
		*status = fuzz_byte();
	return fuzz_fails() ? 0 : pid;
}

int kill(pid_t pid, int number)
{
	(void)number;
	if (pid <= 1)
		fuzz_found("a signal goes to everybody");
	return 0;
}

int pidfd_open(pid_t pid, unsigned int flags)
{
	(void)pid;
	(void)flags;
	return fuzz_open();
}

int pidfd_send_signal(int pidfd, int number, siginfo_t *info, unsigned int flags)
{
	(void)pidfd;
	(void)number;
	(void)info;
	(void)flags;
	return fuzz_fails() ? -1 : 0;
}
