// SPDX-License-Identifier: MIT
/* vbusd_spawn.c - between fork and exec of a worker: a child that is still a copy of vbusd. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"
#include "userns.h"
#include "vbusd.h"

/*
 * Nothing to read, nowhere to write but to the log, what vbusd says and where the next one comes.
 * Everything else is close-on-exec, if vbusd opened it; what somebody left open for vbusd must not
 * reach a worker either.
 */
static bool keep_descriptors(const struct vbusd_bus *bus, int control, int meet)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* Out of the way of the numbers that they are to have. */
	control = fcntl(control, F_DUPFD_CLOEXEC, VBUS_WORKER_MODULE_FD);
	meet = fcntl(meet, F_DUPFD_CLOEXEC, VBUS_WORKER_MODULE_FD);
	return null > STDERR_FILENO && dup2(null, STDIN_FILENO) == STDIN_FILENO &&
	       dup2(null, STDOUT_FILENO) == STDOUT_FILENO && control >= 0 && meet >= 0 &&
	       dup2(control, VBUS_WORKER_FD) == VBUS_WORKER_FD &&
	       dup2(meet, VBUS_WORKER_MEET_FD) == VBUS_WORKER_MEET_FD &&
	       !vbusd_class_hand(bus->modules) &&
	       !close_range(VBUS_WORKER_MEET_FD + 1, VBUS_WORKER_MODULE_FD - 1, 0);
}

static void become_worker(const struct vbusd_bus *bus)
{
	char user[16];
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	snprintf(user, sizeof(user), "%u",
		 vbusd.worker_first ? vbusd.worker_first + vbusd_bus_index(bus) :
		 VBUS_WORKER_NOBODY);
	execl(vbusd.worker_path, "vbus-worker", user,
	      vbusd.require_sandbox ? "required" : "as-available", (char *)NULL);
}

/* fork(), with the new process the first of a PID namespace: it can name no other. */
static pid_t fork_apart(unsigned long more)
{
	return (pid_t)syscall(SYS_clone, CLONE_NEWPID | more | SIGCHLD, NULL, NULL, NULL, NULL);
}

/*
 * This namespace must be there before its first process, so it is not for the worker to make.  An
 * ordinary user gets it together with a user namespace only; the worker makes its own within.  The
 * first process of a namespace ignores signals of its own: abort() ends it by signal 11.
 */
pid_t vbusd_spawn(const struct vbusd_bus *bus, int control, int meet)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	bool apart = true;
	pid_t pid;

	pid = fork_apart(uid ? CLONE_NEWUSER : 0);
	if (pid < 0) {
		apart = false;
		pid = fork();
	}
	if (pid)
		return pid;
	/* Its copies first: nobody is to find sockets open of a vbusd that may be gone by now. */
	if (keep_descriptors(bus, control, meet) &&
	    (!apart || !uid || !vbus_userns_name_self(uid, gid)))
		become_worker(bus);
	vbus_log(bus->name, "%s cannot be started (%s)", vbusd.worker_path, strerror(errno));
	_exit(127);
}
