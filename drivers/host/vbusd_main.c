// SPDX-License-Identifier: MIT
/* vbusd_main.c - start, the one loop, the end. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "listen.h"
#include "log.h"
#include "vbusd.h"
#include "vbusd_record.h"

#define PATIENCE_MS	3000	/* a worker that nothing holds up takes a few */

struct vbusd vbusd;

int vbusd_watch(int fd, enum vbusd_event kind, uint32_t index)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = (uint64_t)kind << 32 | index };

	return epoll_ctl(vbusd.epoll, EPOLL_CTL_ADD, fd, &e);
}

void vbusd_unwatch(int *fd)
{
	if (*fd < 0)
		return;
	if (epoll_ctl(vbusd.epoll, EPOLL_CTL_DEL, *fd, NULL) < 0 && errno != ENOENT)
		vbus_log(NULL, "descriptor %d cannot be unwatched (%s)", *fd, strerror(errno));
	close(*fd);
	*fd = -1;
}

/* Ctrl-C is the end of everything; SIGTERM is systemd's, and another vbusd is to come. */
static void on_signal(void)
{
	struct signalfd_siginfo info;

	if (read(vbusd.signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	vbusd.ends = true;
	vbusd.clears = info.ssi_signo == SIGINT;
}

static void dispatch(uint64_t event)
{
	uint32_t index = (uint32_t)event;

	switch ((enum vbusd_event)(event >> 32)) {
	case VBUSD_EVENT_SIGNAL:
		on_signal();
		break;
	case VBUSD_EVENT_ADMIN:
		vbusd_admin_accept();
		break;
	case VBUSD_EVENT_CLIENT:
		vbusd_admin_serve(index);
		break;
	case VBUSD_EVENT_LISTENER:
		vbusd_ivshmem_accept(&vbusd.bus[index]);
		break;
	case VBUSD_EVENT_QEMU:
		if (vbusd.bus[index].connector == VBUSD_FILE)
			vbusd_file_readable(&vbusd.bus[index]);
		else
			vbusd_ivshmem_readable(&vbusd.bus[index]);
		break;
	case VBUSD_EVENT_WORKER_END:
		vbusd_worker_ended(&vbusd.bus[index], 0);
		break;
	case VBUSD_EVENT_RESPAWN:
		vbusd_worker_respawn(&vbusd.bus[index]);
		break;
	case VBUSD_EVENT_FENCE:
		vbusd_worker_fence(&vbusd.bus[index]);
		break;
	case VBUSD_EVENT_NOTICE:
		vbusd_stream_notice(&vbusd.bus[index]);
		break;
	case VBUSD_EVENT_REOPEN:
		vbusd_stream_reopen(&vbusd.bus[index]);
		break;
	}
}

/* One event at a time: handling one may close what another is about. */
static int serve(void)
{
	struct epoll_event e;
	int n;

	while (!vbusd.ends) {
		n = epoll_wait(vbusd.epoll, &e, 1, -1);
		if (n < 0 && errno != EINTR) {
			vbus_log(NULL, "waiting for events failed (%s)", strerror(errno));
			return 1;
		}
		if (n > 0)
			dispatch(e.data.u64);
	}
	return 0;
}

/* vbus-worker lies beside vbusd, unless told otherwise. */
static int find_worker(char *path, size_t size)
{
	const size_t tail = sizeof("vbus-worker");
	ssize_t len = readlink("/proc/self/exe", path, size - tail);
	char *slash;

	if (len < 0)
		return -1;
	path[len] = 0;
	slash = strrchr(path, '/');
	memcpy(slash + 1, "vbus-worker", tail);
	return access(path, X_OK);
}

/* One for each bus that may be. */
static int find_users(const char *word)
{
	unsigned long first, last;
	char *end;

	errno = 0;
	first = strtoul(word, &end, 10);
	if (*end == '-')
		last = strtoul(end + 1, &end, 10);
	else
		last = first + VBUSD_BUSES - 1;
	if (errno || *end || *word < '1' || *word > '9' || last < first ||
	    last - first < VBUSD_BUSES - 1 || last >= (uid_t)-1)
		return -1;
	vbusd.worker_first = (uid_t)first;
	return 0;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: vbusd --socket PATH [--state DIR] [--worker PROGRAM] [--qemu-user USER]\n"
		"             [--worker-users FIRST[-LAST]] [--require-sandbox]\n"
		"             [--control-user USER]\n"
		"Serves the vbus of the guests of this host; `vbuskit host` tells it what to do.\n"
		"SIGINT ends it and all it serves; SIGTERM leaves that to the next vbusd.\n");
	return 2;
}

/* A bus takes up to 70 descriptors, and 64 buses more than the usual 1024. */
static void raise_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return;
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		vbus_log(NULL, "the limit of open files cannot be raised (%s)", strerror(errno));
}

/*
 * One vbusd a folder.  Its descriptor stays open, and is the lock; a child that a killed vbusd had
 * just forked has it too, until it becomes the worker.
 */
static int lock_state(void)
{
	char inside[PATH_MAX], text[VBUSD_TEXT_LEN];
	int fd = open(vbusd.state, O_RDONLY | O_DIRECTORY | O_CLOEXEC), tries, err = -1;

	snprintf(inside, sizeof(inside), "%s/", vbusd.state);
	if (fd < 0) {
		vbus_log(NULL, "%s: no records can be kept there (%s)", vbusd.state,
			 strerror(errno));
		return -1;
	}
	if (vbus_judge_folder(inside, text) < 0) {
		vbus_log(NULL, "no records can be kept (%s)", text);
		return -1;
	}
	for (tries = 0; tries < 100 && (err = flock(fd, LOCK_EX | LOCK_NB)) < 0; tries++)
		poll(NULL, 0, 10);
	if (err < 0)
		vbus_log(NULL, "%s: another vbusd has its records there; name another --state",
			 vbusd.state);
	return err;
}

static int set_up(const char *path)
{
	char text[VBUSD_TEXT_LEN];
	sigset_t ends;

	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	signal(SIGPIPE, SIG_IGN);
	raise_limit();
	/* First, so that it has a low number: a limit that is lowered later does not reach it. */
	vbusd.spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	vbusd.epoll = epoll_create1(EPOLL_CLOEXEC);
	vbusd.signals = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
	if (vbusd.epoll < 0 || vbusd.signals < 0 ||
	    vbusd_watch(vbusd.signals, VBUSD_EVENT_SIGNAL, 0) < 0) {
		vbus_log(NULL, "no event loop (%s)", strerror(errno));
		return -1;
	}
	vbusd.admin = vbus_listen(path, SOCK_SEQPACKET, vbusd.control_user, text);
	if (vbusd.admin < 0 || vbusd_watch(vbusd.admin, VBUSD_EVENT_ADMIN, 0) < 0) {
		vbus_log(NULL, "cannot serve (%s)", vbusd.admin < 0 ? text : strerror(errno));
		return -1;
	}
	if (lock_state() < 0) {
		unlink(path);
		return -1;
	}
	return 0;
}

/* Who is to come after us finds a worker with each session that has a QEMU. */
static void leave_to_the_next(void)
{
	int patience_ms = PATIENCE_MS;
	struct vbusd_bus *bus;

	for (bus = vbusd.bus; bus < vbusd.bus + VBUSD_BUSES; bus++) {
		if (!bus->used)
			continue;
		if (bus->connector == VBUSD_FILE) {
			/* What lies in a folder has no second holder. */
			vbusd_worker_kill(bus, VBUSD_AFTER_SESSION);
			vbusd_bus_close(bus);
		}
		if (bus->qemu < 0)
			continue;
		/* It may be dead or dying, by our own hand, and holds nothing for anybody then. */
		vbusd_worker_ended(bus, vbusd_is_dying(bus->worker) ? patience_ms : 0);
		if (!bus->worker)
			vbusd_worker_start(bus);
		else if (vbusd_is_dying(bus->worker))
			patience_ms = 0;
	}
}

/* All workers end at once: the patience with one is the patience with those behind it. */
static void clear_all(void)
{
	int patience_ms = PATIENCE_MS;
	struct vbusd_bus *bus;

	for (bus = vbusd.bus; bus < vbusd.bus + VBUSD_BUSES; bus++)
		if (bus->used)
			vbusd_bus_end(bus);
	for (bus = vbusd.bus; bus < vbusd.bus + VBUSD_BUSES; bus++) {
		vbusd_worker_ended(bus, patience_ms);
		if (!bus->used)
			continue;
		vbus_log(bus->name, "worker %d is killed and ends when a disk that holds it up does",
			 (int)bus->worker);
		patience_ms = 0;
	}
	if (!vbusd_takeover_left())
		vbusd_class_forget();
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "state", required_argument, NULL, 'd' },
		{ "worker", required_argument, NULL, 'w' },
		{ "qemu-user", required_argument, NULL, 'q' },
		{ "worker-users", required_argument, NULL, 'u' },
		{ "require-sandbox", no_argument, NULL, 'r' },
		{ "control-user", required_argument, NULL, 'c' },
		{ 0 },
	};
	static char beside[PATH_MAX], folder[PATH_MAX];
	const char *path = NULL;
	uid_t *user;
	uint32_t i;
	int c, rc;

	vbusd.qemu_user = vbusd.control_user = geteuid();
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			path = optarg;
			break;
		case 'd':
			vbusd.state = optarg;
			break;
		case 'w':
			vbusd.worker_path = optarg;
			break;
		case 'q':
		case 'c':
			user = c == 'q' ? &vbusd.qemu_user : &vbusd.control_user;
			if (vbus_user_find(optarg, user, NULL) < 0) {
				vbus_log(NULL, "user %s: is not known", optarg);
				return 2;
			}
			break;
		case 'u':
			if (find_users(optarg) < 0) {
				vbus_log(NULL, "users %s: must be FIRST-LAST, %u numbers or more, "
					 "none of them 0", optarg, VBUSD_BUSES);
				return 2;
			}
			break;
		case 'r':
			vbusd.require_sandbox = true;
			break;
		default:
			return usage();
		}
	}
	if (!path || optind != argc)
		return usage();
	if (!vbusd.worker_path) {
		if (find_worker(beside, sizeof(beside)) < 0) {
			vbus_log(NULL, "no vbus-worker beside it (%s)", strerror(errno));
			return 1;
		}
		vbusd.worker_path = beside;
	}
	if (!vbusd.state) {
		snprintf(folder, sizeof(folder), "%s", path);
		vbusd.state = dirname(folder);
	}
	for (i = 0; i < VBUSD_CLIENTS; i++)
		vbusd.client[i] = -1;
	if (*vbusd.state != '/') {
		vbus_log(NULL, "--state %s: needs an absolute path", vbusd.state);
		return 2;
	}
	vbusd_store_open();
	if (set_up(path) < 0)
		return 1;
	if (vbusd_rights_drop() < 0) {
		vbus_log(NULL, "rights cannot be given up (%s)", strerror(errno));
		return 1;
	}

	vbusd_class_restore();
	vbusd_takeover();
	vbusd_store_ready();
	vbus_log(NULL, "serves %s", path);
	rc = serve();

	if (vbusd.clears)
		clear_all();
	else
		leave_to_the_next();
	unlink(path);
	vbus_log(NULL, "ends");
	return rc;
}
