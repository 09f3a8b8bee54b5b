// SPDX-License-Identifier: MIT
/* store.c - see store.h. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "fdmsg.h"
#include "store.h"

#define STORE	256

static struct {
	char path[128];
	int sock;
	int fd[STORE];
	char name[STORE][64];
	unsigned int count;
	bool ready;
} systemd;

static bool is_same(int a, int b)
{
	/* As systemd has it: the very same open file. */
	return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, a, b) == 0;
}

void store_put(int fd, const char *name)
{
	unsigned int i;

	for (i = 0; i < systemd.count; i++)
		if (is_same(systemd.fd[i], fd) && !strcmp(systemd.name[i], name)) {
			close(fd);
			return;
		}
	snprintf(systemd.name[systemd.count], sizeof(systemd.name[0]), "%s", name);
	systemd.fd[systemd.count++] = fd;
}

static void drop(const char *name)
{
	unsigned int i, left = 0;

	for (i = 0; i < systemd.count; i++) {
		if (!strcmp(systemd.name[i], name)) {
			close(systemd.fd[i]);
			continue;
		}
		systemd.fd[left] = systemd.fd[i];
		memmove(systemd.name[left++], systemd.name[i], sizeof(systemd.name[0]));
	}
	systemd.count = left;
}

void store_listen(void)
{
	struct pollfd word = { .fd = systemd.sock, .events = POLLIN };
	char text[512], name[64];
	unsigned int count, i;
	int fds[128];
	long n;

	while (poll(&word, 1, 0) > 0) {
		n = vbus_fdmsg_receive(systemd.sock, text, sizeof(text) - 1, fds, 128, &count);
		if (n < 0)
			return;
		text[n] = 0;
		if (!strcmp(text, "READY=1"))
			systemd.ready = true;
		else if (sscanf(text, "FDSTORE=1\nFDNAME=%63s", name) == 1)
			for (i = 0; i < count; i++)
				store_put(fds[i], name);
		else if (sscanf(text, "FDSTOREREMOVE=1\nFDNAME=%63s", name) == 1)
			drop(name);
		else
			fprintf(stderr, "# systemd does not understand: %s\n", text);
	}
}

unsigned int store_count(const char *name)
{
	unsigned int i, count = 0;

	store_listen();
	for (i = 0; i < systemd.count; i++)
		count += !strcmp(systemd.name[i], name);
	return count;
}

static bool is_ready(void)
{
	store_listen();
	return systemd.ready;
}

/* Last in, first out. */
void store_hand_back(void)
{
	static char names[STORE * 64];
	char number[16];
	unsigned int i, at;

	setenv("NOTIFY_SOCKET", systemd.path, 1);
	if (!systemd.count)
		return;
	for (i = 0; i < systemd.count; i++) {
		at = systemd.count - 1 - i;
		/* First out of the way of 3, 4 and so on. */
		systemd.fd[at] = fcntl(systemd.fd[at], F_DUPFD_CLOEXEC, 500);
		strcat(names, i ? ":" : "");
		strcat(names, systemd.name[at]);
	}
	for (i = 0; i < systemd.count; i++)
		dup2(systemd.fd[systemd.count - 1 - i], 3 + (int)i);
	snprintf(number, sizeof(number), "%u", systemd.count);
	setenv("LISTEN_FDS", number, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	snprintf(number, sizeof(number), "%d", (int)getpid());
	setenv("LISTEN_PID", number, 1);
}

bool store_start(struct rig *r)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	memset(&systemd, 0, sizeof(systemd));
	systemd.sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(systemd.path, sizeof(systemd.path), "%.90s/notify", r->dir);
	strcpy(at.sun_path, systemd.path);
	if (bind(systemd.sock, (struct sockaddr *)&at, sizeof(at)) < 0)
		return false;
	rig_lose(r, SIGKILL);
	return rig_again(r, store_hand_back) && RIG_UNTIL(is_ready());
}

void store_stop(void)
{
	while (systemd.count)
		drop(systemd.name[0]);
	close(systemd.sock);
	unlink(systemd.path);
}
