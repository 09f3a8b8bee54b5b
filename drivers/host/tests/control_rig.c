// SPDX-License-Identifier: MIT
/* control_rig.c - see control_rig.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control_rig.h"

#define ANSWER_MAX	(1u << 18)

bool control_rig_alone(void)
{
	return !unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static int dial(const char *path)
{
	const struct timeval patience = { .tv_sec = RIG_DEADLINE_MS / 1000 };
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(at.sun_path, path, sizeof(at.sun_path) - 1);
	if (s >= 0 && !setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) &&
	    !connect(s, (struct sockaddr *)&at, sizeof(at)))
		return s;
	if (s >= 0)
		close(s);
	return -1;
}

/* A line, which is the whole answer; NULL when it ends before. */
static json_t *receive(int s)
{
	static char line[ANSWER_MAX];
	size_t got = 0;
	ssize_t n;

	while (got < sizeof(line) && (n = recv(s, line + got, sizeof(line) - got, 0)) > 0) {
		got += (size_t)n;
		if (line[got - 1] == '\n')
			return json_loadb(line, got, 0, NULL);
	}
	return NULL;
}

static int errno_of(const char *code)
{
	static const struct {
		const char *code;
		int error;
	} codes[] = {
		{ "EXISTS", EEXIST }, { "NO_ENTRY", ENOENT }, { "BUSY", EBUSY },
		{ "AWAY", ENOTCONN }, { "MALFORMED", EINVAL },
	};
	size_t i;

	for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (!strcmp(codes[i].code, code))
			return codes[i].error;
	return EIO;
}

json_t *control_rig_ask(const struct control_rig *c, const char *method, json_t *params, int *err)
{
	json_t *call = json_pack("{s:s, s:o}", "method", method, "params",
				 params ? params : json_object());
	char *text = json_dumps(call, JSON_COMPACT);
	json_t *answer = NULL, *result;
	int s = dial(c->socket);

	if (s >= 0 && dprintf(s, "%s\n", text) > 0)
		answer = receive(s);
	if (s >= 0)
		close(s);
	free(text);
	json_decref(call);
	result = json_incref(json_object_get(answer, "result"));
	*err = !answer ? ENOTCONN : result ? 0 :
	       errno_of(json_string_value(json_object_get(json_object_get(answer, "error"),
							  "code")));
	json_decref(answer);
	return result;
}

int control_rig_do(const struct control_rig *c, const char *method, json_t *params)
{
	int err;

	json_decref(control_rig_ask(c, method, params, &err));
	return err;
}

static bool has_ended(const struct control_rig *c)
{
	siginfo_t end = { 0 };

	return !waitid(P_PID, (id_t)c->pid, &end, WEXITED | WNOHANG | WNOWAIT) && end.si_pid;
}

bool control_rig_again(struct control_rig *c)
{
	char *line[] = {
		"vbus-control", "--socket", c->socket, "--state", c->state, "--tree", c->tree,
		"--vbusd", c->rig->admin_path, "--sockets", c->rig->dir, "--user", "nobody", NULL
	};
	int log = open(c->rig->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (!c->program || log < 0)
		return false;
	c->pid = fork();
	if (!c->pid) {
		dup2(log, STDERR_FILENO);
		execv(c->program, line);
		_exit(127);
	}
	close(log);
	return c->pid > 0 && RIG_UNTIL(!control_rig_do(c, "version", NULL) || has_ended(c)) &&
	       !has_ended(c);
}

int control_rig_lose(struct control_rig *c, int number)
{
	int status = -1;

	if (c->pid > 0) {
		kill(c->pid, number);
		waitpid(c->pid, &status, 0);
	}
	c->pid = 0;
	return status;
}

bool control_rig_start(struct control_rig *c, struct rig *r)
{
	char *const words[] = { "--control-user", "nobody", NULL };

	*c = (struct control_rig){ .rig = r, .program = getenv("VBUS_CONTROL") };
	if (!rig_start_with(r, words) || chmod(r->dir, 0755) < 0)
		return false;
	snprintf(c->socket, sizeof(c->socket), "%s/json", r->dir);
	snprintf(c->state, sizeof(c->state), "%s/state", r->dir);
	snprintf(c->tree, sizeof(c->tree), "%s/tree", r->dir);
	/* Where it has vbusd make the socket of the bus "b". */
	snprintf(r->qemu_path, sizeof(r->qemu_path), "%s/b.sock", r->dir);
	return !mkdir(c->tree, 0755) && control_rig_again(c);
}

void control_rig_stop(struct control_rig *c)
{
	static const char *const left[] = {
		"json", "state/devices.json", "state/devices.json.new",
	};
	char path[160];
	size_t i;

	control_rig_lose(c, SIGKILL);
	/* Its guard lifts the mount. */
	if (!RIG_UNTIL(!control_rig_mounts(c)))
		umount2(c->tree, MNT_DETACH);
	for (i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", c->rig->dir, left[i]);
		unlink(path);
	}
	rmdir(c->state);
	rmdir(c->tree);
	rig_stop(c->rig);
}

const char *control_rig_read(const struct control_rig *c, const char *file)
{
	static char text[4096];
	char path[256];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", c->tree, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = 0;
	return text;
}

int control_rig_write(const struct control_rig *c, const char *file, const char *text)
{
	ssize_t len = (ssize_t)strlen(text);
	char path[256];
	int fd, err = 0;

	snprintf(path, sizeof(path), "%s/%s", c->tree, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	if (write(fd, text, (size_t)len) != len)
		err = errno;
	close(fd);
	return err;
}

uint32_t control_rig_mounts(const struct control_rig *c)
{
	FILE *f = fopen("/proc/self/mounts", "re");
	uint32_t count = 0;
	char line[1024];

	while (f && fgets(line, sizeof(line), f))
		count += !!strstr(line, c->tree);
	if (f)
		fclose(f);
	return count;
}
