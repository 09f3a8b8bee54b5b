// SPDX-License-Identifier: MIT
/* control_main.c - start, as root or not; the one loop; the end. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "listen.h"
#include "log.h"

struct control control = { .vbusd = "/run/vbuskit/vbusd.sock", .sockets = "/run/vbuskit" };

int control_watch(int fd, enum control_event kind, uint32_t index)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = (uint64_t)kind << 32 | index };

	return epoll_ctl(control.epoll, EPOLL_CTL_ADD, fd, &e);
}

int control_refuse(int error, const char *fmt, ...)
{
	va_list args;
	char *c;

	va_start(args, fmt);
	vsnprintf(control.error, sizeof(control.error), fmt, args);
	va_end(args);
	/* It becomes JSON, which wants UTF-8, and may repeat what a user wrote. */
	for (c = control.error; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	vbus_log(NULL, "%s", control.error);
	return -error;
}

static void dispatch(uint64_t event)
{
	switch ((enum control_event)(event >> 32)) {
	case CONTROL_SIGNAL:
		break;
	case CONTROL_NEWS:
		control_vbusd_news();
		break;
	case CONTROL_RETRY:
		control_vbusd_retry();
		break;
	case CONTROL_TREE:
		control_tree_serve();
		break;
	case CONTROL_LISTENER:
		control_client_accept();
		break;
	case CONTROL_CLIENT:
		control_client_serve((uint32_t)event);
		break;
	}
}

/* One event at a time, as in vbusd. */
static int serve(void)
{
	struct epoll_event e;
	int n;

	for (;;) {
		n = epoll_wait(control.epoll, &e, 1, -1);
		if (n < 0 && errno != EINTR) {
			vbus_log(NULL, "waiting for events failed (%s)", strerror(errno));
			return 1;
		}
		if (n > 0 && e.data.u64 >> 32 == CONTROL_SIGNAL)
			return 0;
		if (n > 0)
			dispatch(e.data.u64);
	}
}

struct start {
	const char *socket, *tree, *state;
	bool allow_other, as_root;
	uid_t uid;
	gid_t gid;
};

/* What is made here is given to the user that is left; what was there stays as it is. */
static int open_state(const struct start *s)
{
	bool made = !mkdir(s->state, 0700);

	if (!made && errno != EEXIST)
		return -1;
	control.state = open(s->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (control.state < 0)
		return -1;
	return made && s->as_root ? fchown(control.state, s->uid, s->gid) : 0;
}

static int give_up_root(const struct start *s)
{
	if (s->as_root && (setgroups(0, NULL) < 0 || setresgid(s->gid, s->gid, s->gid) < 0 ||
			   setresuid(s->uid, s->uid, s->uid) < 0))
		return -1;
	/* An ordinary user's tree is unmounted by fusermount3, which is setuid. */
	if ((s->as_root || !s->tree) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static int set_up(const struct start *s)
{
	sigset_t ends;
	int signals;

	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	signal(SIGPIPE, SIG_IGN);
	control.epoll = epoll_create1(EPOLL_CLOEXEC);
	signals = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
	if (control.epoll < 0 || signals < 0 || control_watch(signals, CONTROL_SIGNAL, 0) < 0 ||
	    control_vbusd_set_up() < 0) {
		vbus_log(NULL, "no event loop (%s)", strerror(errno));
		return -1;
	}
	if (open_state(s) < 0) {
		vbus_log(NULL, "%s: cannot be used (%s)", s->state, strerror(errno));
		return -1;
	}
	if (control_client_listen(s->socket) ||
	    (s->tree && control_tree_open(s->tree, s->as_root, s->allow_other)))
		return -1;
	if (give_up_root(s) < 0) {
		vbus_log(NULL, "root cannot be given up (%s)", strerror(errno));
		return -1;
	}
	/* The file is that user's, and so is what a link in its place points to. */
	return control_shells_load();
}

static int usage(void)
{
	fprintf(stderr,
		"usage: vbus-control --socket PATH --state FOLDER --tree FOLDER | --no-tree\n"
		"                    [--vbusd PATH] [--sockets FOLDER] [--user USER]\n"
		"                    [--owner USER] [--allow-other]\n"
		"Serves vbusd as files and as JSON; started as root it goes on as USER.\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct start s = { .as_root = !geteuid() };
	const char *user = NULL, *owner = NULL;
	int allow_other = 0, no_tree = 0, at, rc = 1;
	const struct option options[] = {
		{ "socket", required_argument, NULL, 0 },
		{ "state", required_argument, NULL, 0 },
		{ "tree", required_argument, NULL, 0 },
		{ "vbusd", required_argument, NULL, 0 },
		{ "sockets", required_argument, NULL, 0 },
		{ "user", required_argument, NULL, 0 },
		{ "owner", required_argument, NULL, 0 },
		{ "no-tree", no_argument, &no_tree, 1 },
		{ "allow-other", no_argument, &allow_other, 1 },
		{ 0 },
	};
	const char **const values[] = {
		&s.socket, &s.state, &s.tree, &control.vbusd, &control.sockets, &user, &owner,
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, &at)) != -1) {
		if (c)
			return usage();
		if (optarg)
			*values[at] = optarg;
	}
	if (!s.socket || !s.state || !!s.tree == no_tree || optind != argc)
		return usage();
	control.owner = geteuid();
	if ((user && vbus_user_find(user, &s.uid, &s.gid) < 0) ||
	    (owner && vbus_user_find(owner, &control.owner, NULL) < 0)) {
		vbus_log(NULL, "user %s or %s: is not known", user ? user : "-",
			 owner ? owner : "-");
		return 2;
	}
	if (s.as_root ? !s.uid : !!user) {
		vbus_log(NULL, "--user is for root, which must not stay: name an ordinary user");
		return 2;
	}
	s.allow_other = allow_other;
	if (!set_up(&s)) {
		vbus_log(NULL, "serves %s", s.socket);
		rc = serve();
		unlink(s.socket);
		vbus_log(NULL, "ends");
	}
	control_tree_close();
	return rc;
}
