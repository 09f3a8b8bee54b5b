// SPDX-License-Identifier: MIT
/* rig.c - see rig.h. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rig.h"

uint64_t rig_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void rig_pause(void)
{
	poll(NULL, 0, 1);
}

static int dial(const char *path, int type)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int s = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	if (s < 0)
		return -1;
	memcpy(at.sun_path, path, strlen(path));
	if (connect(s, (struct sockaddr *)&at, sizeof(at)) < 0) {
		close(s);
		return -1;
	}
	return s;
}

struct answer {
	struct vbusd_reply head;
	char more[sizeof(struct vbusd_bus_status)];
};

/*
 * It answers when it has taken over what was left; that there is nothing is an answer, too.  Who is
 * connected only may be in the queue of a former one's worker that was still to be executed.
 */
static bool reached(struct rig *r)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_STATUS);
	struct answer a;

	r->admin = dial(r->admin_path, SOCK_SEQPACKET);
	if (r->admin < 0)
		return false;
	if (rig_tell(r, &q, &a, sizeof(a)) >= (long)sizeof(a.head))
		return true;
	close(r->admin);
	r->admin = -1;
	return false;
}

bool rig_reach(struct rig *r)
{
	return RIG_UNTIL(reached(r));
}

/* Not reaped: that is rig_lose()'s. */
static bool has_ended(const struct rig *r)
{
	siginfo_t end = { 0 };

	return !waitid(P_PID, (id_t)r->vbusd, &end, WEXITED | WNOHANG | WNOWAIT) && end.si_pid;
}

bool rig_again(struct rig *r, void (*before)(void))
{
	char *line[8] = { "vbusd", "--socket", r->admin_path };
	int log = open(r->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (!r->program || log < 0)
		return false;
	memcpy(&line[3], r->words, sizeof(r->words));
	r->vbusd = fork();
	if (!r->vbusd) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		dup2(log, STDERR_FILENO);
		dup2(log, RIG_LEAK);
		if (before)
			before();
		execv(r->program, line);
		_exit(127);
	}
	close(log);
	return r->vbusd > 0 && RIG_UNTIL(reached(r) || has_ended(r)) && r->admin >= 0;
}

bool rig_start_with(struct rig *r, char *const *words)
{
	uint32_t i;

	*r = (struct rig){
		.dir = "/tmp/vbusd-test-XXXXXX", .program = getenv("VBUSD"), .admin = -1
	};
	for (i = 0; i < RIG_WORDS && words[i]; i++)
		r->words[i] = words[i];
	if (!mkdtemp(r->dir))
		return false;
	snprintf(r->admin_path, sizeof(r->admin_path), "%s/admin", r->dir);
	snprintf(r->qemu_path, sizeof(r->qemu_path), "%s/qemu", r->dir);
	snprintf(r->log_path, sizeof(r->log_path), "%s/log", r->dir);
	r->connector = getenv("VBUS_CONNECTOR") ? VBUSD_FILE : VBUSD_IVSHMEM;
	if (r->connector == VBUSD_FILE && mkdir(r->qemu_path, 0700) < 0)
		return false;
	return rig_again(r, NULL);
}

bool rig_start(struct rig *r)
{
	char *worker = getenv("RIG_WORKER");
	char *const words[] = { worker ? "--worker" : NULL, worker, NULL };

	return rig_start_with(r, words);
}

static void show(const char *path)
{
	char line[512];
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof(line), f))
		fprintf(stderr, "# %s", line);
	if (f)
		fclose(f);
}

/* What a vbusd that was killed has left: a socket, or a folder of files. */
static void clear(const char *path)
{
	char name[400];
	struct dirent *entry;
	DIR *folder;

	unlink(path);
	folder = opendir(path);
	if (!folder)
		return;
	while ((entry = readdir(folder))) {
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		unlink(name);
	}
	closedir(folder);
	rmdir(path);
}

void rig_lose(struct rig *r, int number)
{
	if (r->admin >= 0)
		close(r->admin);
	r->admin = -1;
	if (r->vbusd > 0) {
		kill(r->vbusd, number);
		waitpid(r->vbusd, NULL, 0);
	}
	r->vbusd = 0;
}

static void remove_left(struct rig *r, const char *file)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", r->dir, file);
	unlink(path);
}

void rig_stop(struct rig *r)
{
	rig_lose(r, SIGINT);
	if (getenv("RIG_SHOW_LOG"))
		show(r->log_path);
	unlink(r->log_path);
	/* A vbusd that was killed has left them. */
	unlink(r->admin_path);
	clear(r->qemu_path);
	remove_left(r, "b.bus");
	remove_left(r, "b.worker");
	rmdir(r->dir);
}

uint32_t rig_count_logged(struct rig *r, const char *text)
{
	static char all[1 << 20];
	FILE *f = fopen(r->log_path, "re");
	uint32_t count = 0;
	const char *at;
	size_t n;

	if (!f)
		return 0;
	n = fread(all, 1, sizeof(all) - 1, f);
	fclose(f);
	all[n] = 0;
	for (at = all; (at = strstr(at, text)); at++)
		count++;
	return count;
}

bool rig_logged(struct rig *r, const char *text)
{
	return RIG_UNTIL(rig_count_logged(r, text));
}

int rig_dial(struct rig *r)
{
	return dial(r->qemu_path, SOCK_STREAM);
}

uint32_t rig_kills(void)
{
	const char *word = getenv("VBUS_KILLS");

	return word ? (uint32_t)strtoul(word, NULL, 10) : 20;
}

uint32_t rig_descriptors(pid_t pid)
{
	uint32_t count = 0;
	char path[64];
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	d = opendir(path);
	while (d && readdir(d))
		count++;
	if (d)
		closedir(d);
	return count;
}

long rig_proc_number(pid_t pid, const char *key)
{
	size_t len = strlen(key);
	char line[256], *end;
	long number = -1;
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/status", (int)pid);
	f = fopen(line, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len) && line[len] == ':')
			number = strtol(line + len + 1, &end, 10);
	if (f)
		fclose(f);
	return number;
}

char rig_state(pid_t pid)
{
	char path[64], state = 'X';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return state;
	if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	fclose(f);
	return state;
}

bool rig_is_gone(pid_t pid)
{
	char state = rig_state(pid);

	return state == 'X' || state == 'Z';
}

long rig_ticks(pid_t pid)
{
	long user = 0, system = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f && fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld",
			&user, &system) != 2)
		user = system = 0;
	if (f)
		fclose(f);
	return user + system;
}

long rig_tell(struct rig *r, const struct vbusd_request *q, void *a, size_t len)
{
	if (send(r->admin, q, sizeof(*q), MSG_NOSIGNAL) != (ssize_t)sizeof(*q))
		return -1;
	return recv(r->admin, a, len, 0);
}

static long ask(struct rig *r, const struct vbusd_request *q, struct answer *a)
{
	return rig_tell(r, q, a, sizeof(*a));
}

enum vbusd_result rig_ask(struct rig *r, const struct vbusd_request *q, char *text)
{
	struct answer a = { 0 };

	if (ask(r, q, &a) < (long)sizeof(a.head))
		return (enum vbusd_result)-1;
	if (text)
		memcpy(text, a.head.text, sizeof(a.head.text));
	return a.head.result;
}

bool rig_bus_status(struct rig *r, uint32_t index, struct vbusd_bus_status *out)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_STATUS);
	struct answer a;

	q.index = index;
	if (ask(r, &q, &a) != (long)(sizeof(a.head) + sizeof(*out)))
		return false;
	memcpy(out, a.more, sizeof(*out));
	return true;
}

bool rig_device_status(struct rig *r, const char *bus, uint32_t index,
		       struct vbusd_device_status *out)
{
	struct vbusd_request q = rig_request(VBUSD_DEVICE_STATUS);
	struct answer a;

	snprintf(q.bus, sizeof(q.bus), "%s", bus);
	q.index = index;
	if (ask(r, &q, &a) != (long)(sizeof(a.head) + sizeof(*out)))
		return false;
	memcpy(out, a.more, sizeof(*out));
	return true;
}

struct vbusd_request rig_request(enum vbusd_op op)
{
	return (struct vbusd_request){ .version = VBUSD_VERSION, .op = op, .bus = "b" };
}

struct vbusd_request rig_device(const char *klass, uint8_t number)
{
	struct vbusd_request q = rig_request(VBUSD_DEVICE_ADD);

	memset(q.uuid, number, sizeof(q.uuid));
	q.mac[0] = 0x52;
	q.mac[5] = number;
	snprintf(q.klass, sizeof(q.klass), "%s", klass);
	return q;
}

bool rig_add_bus(struct rig *r)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_ADD);

	q.window_mib = 1;
	q.vectors = 8;
	q.connector = r->connector;
	memcpy(q.argument, r->qemu_path, sizeof(q.argument));
	return rig_ask(r, &q, NULL) == VBUSD_OK;
}
