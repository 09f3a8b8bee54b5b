// SPDX-License-Identifier: MIT
/*
 * worker_seccomp.c - the system calls that a worker may make; any other kills it.
 *
 * Killed, not refused: no code here makes another one, so whoever does is not our code.  vbusd logs
 * signal 31 and starts the next.  The list holds on x86-64 and arm64, 64 bit calls only.  What goes
 * through an io_uring passes no filter: its ring is to be restricted to the operations of an image.
 *
 * Calls without a condition are first: the kernel keeps a bit map of those, and the filter is not
 * even run.  Left out where sanitizers watch: they map, fork and read files when they report.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker.h"

static const int always[] = {
	/* The loop, on descriptors that are there. */
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),		/* what epoll_wait is on arm64 */
	SCMP_SYS(epoll_ctl),		/* back ends and connections come and go */
	SCMP_SYS(close),
	SCMP_SYS(timerfd_settime),	/* knocking; coalescing of a queue's signals */
	SCMP_SYS(clock_gettime),	/* where the clock source is no vDSO's */
	/* Doorbells, timers, frames of a tap, lines of the log. */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	/* vbusd's messages with descriptors, and the state that it takes over. */
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(accept4),		/* a new vbusd comes to the socket that was inherited */
	/* A stream of frames, to and from a program that plays the network. */
	SCMP_SYS(recvfrom),
	/* Images: the ring, or a pool of threads. */
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev),
	SCMP_SYS(statx),		/* what O_DIRECT wants to be aligned */
	SCMP_SYS(fdatasync),		/* flush */
	SCMP_SYS(fallocate),		/* discard, write zeroes */
	SCMP_SYS(fstat),		/* the size of a window, of an image after a resize */
	/* Threads that wait for each other; one that was made in time may begin only now. */
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(exit),
	/* Memory, given back or grown; mmap and mprotect are below. */
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(madvise),
	SCMP_SYS(getrandom),		/* the epoch */
	/* Stopped and continued in the middle of a wait; the end; and abort() as far as tgkill. */
	SCMP_SYS(restart_syscall),
	SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
};

static int allow_always(scmp_filter_ctx filter)
{
	uint32_t i;
	int err = 0;

	for (i = 0; !err && i < sizeof(always) / sizeof(always[0]); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, always[i], 0);
	return err;
}

/* Memory that can be run is never made: what was loaded is all that there is. */
static int allow_memory(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp not_run = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	int err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, not_run);

	/* An arena of malloc() grows. */
	return err ? err :
		     seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, not_run);
}

/*
 * The image's lock is taken, and asked for; the flags say whether it is used with O_DIRECT, which a
 * file system may turn out not to know.
 */
static int allow_locks(scmp_filter_ctx filter)
{
	static const unsigned int commands[] = { F_OFD_SETLK, F_OFD_GETLK, F_GETFL, F_SETFL };
	uint32_t i;
	int err = 0;

	for (i = 0; !err && i < sizeof(commands) / sizeof(commands[0]); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				       SCMP_A1_32(SCMP_CMP_EQ, commands[i]));
	return err;
}

/*
 * The size and the blocks of an image that is a block device.  What a tap may leave to the guest: a
 * guest changes that as it runs, and nobody else knows when.  It is no more than a set of bits of the
 * one interface that is this worker's own; its name, its owner and its queues are other requests.
 */
static int allow_requests(scmp_filter_ctx filter)
{
	static const unsigned int requests[] = {
		BLKGETSIZE64, BLKSSZGET, BLKPBSZGET, BLKIOOPT, TUNSETOFFLOAD,
	};
	uint32_t i;
	int err = 0;

	for (i = 0; !err && i < sizeof(requests) / sizeof(requests[0]); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				       SCMP_A1_32(SCMP_CMP_EQ, requests[i]));
	return err;
}

static int allow_rest(scmp_filter_ctx filter)
{
	/* send() on a stream: no address goes with it. */
	int err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sendto), 1,
				   SCMP_A4(SCMP_CMP_EQ, 0));

	/* Who it is that connected. */
	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(getsockopt), 2,
				       SCMP_A1_32(SCMP_CMP_EQ, SOL_SOCKET),
				       SCMP_A2_32(SCMP_CMP_EQ, SO_PEERCRED));
	/* What fstat() is in some C libraries. */
	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
				       SCMP_A3_32(SCMP_CMP_EQ, AT_EMPTY_PATH));
	/* abort(), of this very process. */
	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 2,
				       SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)getpid()),
				       SCMP_A2_32(SCMP_CMP_EQ, SIGABRT));
	return err;
}

static int load(scmp_filter_ctx filter)
{
	int err = allow_always(filter);

	if (!err)
		err = allow_memory(filter);
	if (!err)
		err = allow_locks(filter);
	if (!err)
		err = allow_requests(filter);
	if (!err)
		err = allow_rest(filter);
	/* A call of another width or machine. */
	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	/* Threads that are there already, too. */
	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	return err ? err : seccomp_load(filter);
}

void vbus_seccomp(struct vbus_bus *bus)
{
	scmp_filter_ctx filter;

	if (VBUS_SANITIZED)
		return;
	filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (filter && !load(filter))
		bus->sandbox |= VBUS_SANDBOX_SECCOMP;
	seccomp_release(filter);
}
