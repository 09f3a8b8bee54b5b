// SPDX-License-Identifier: MIT
/*
 * vbusd_class.c - classes that are not built in.
 *
 * vbusd runs no code of theirs.  What a module says of itself is asked by a worker without
 * privileges, and judged; who serves a bus gets the very file that was asked, as a descriptor.  A
 * worker loads modules before it has a guest, so a class new to a bus comes with a new worker.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "listen.h"
#include "log.h"
#include "vblk_abi.h"
#include "vbusd_record.h"
#include "venet_abi.h"

#define NOBODY		65534u
#define ANSWER_MS	2000	/* nobody else is served meanwhile */
#define HIGH		(VBUS_WORKER_MODULE_FD + VBUSD_MODULES)

uint32_t vbusd_class_needed(const struct vbusd_bus *bus)
{
	uint32_t needed = 0, i, k;

	for (i = 0; i < VBUSD_DEVICES; i++)
		for (k = 0; k < VBUSD_MODULES; k++)
			if (bus->device[i].used && bus->device[i].klass == &vbusd.module[k].info)
				needed |= 1u << k;
	return needed;
}

int vbusd_class_hand(uint32_t modules)
{
	int to = VBUS_WORKER_MODULE_FD;
	uint32_t i;

	/* Theirs are above all of these, so none is written over. */
	for (i = 0; i < VBUSD_MODULES; i++)
		if ((modules & 1u << i) && dup2(vbusd.module[i].fd, to++) < 0)
			return -1;
	return close_range((unsigned int)to, ~0u, 0);
}

static uint32_t users(const struct vbus_class_info *klass)
{
	uint32_t count = 0, i, k;

	for (i = 0; i < VBUSD_BUSES; i++)
		for (k = 0; vbusd.bus[i].used && k < VBUSD_DEVICES; k++)
			count += vbusd.bus[i].device[k].used &&
				 vbusd.bus[i].device[k].klass == klass;
	return count;
}

bool vbusd_class_status(uint32_t index, struct vbusd_class_status *out)
{
	const struct vbus_class_info *klass = vbus_class_at(index);
	uint32_t i;

	if (!klass)
		return false;
	*out = (struct vbusd_class_status){
		.version = klass->version, .backend = klass->backend, .devices = users(klass),
	};
	if (vbus_class_is_built_in(klass)) {
		out->rings = vbus_class_is_net(klass) ? VENET_PAIRS_MAX : VBLK_QUEUES_MAX;
		out->mtu = vbus_class_is_net(klass) ? VENET_MTU_MAX : 0;
		out->segments = vbus_class_is_net(klass) ? 0 : VBLK_SEGMENTS_MAX;
	}
	memcpy(out->feature, klass->feature, sizeof(out->feature));
	memcpy(out->name, klass->name, sizeof(out->name));
	memcpy(out->type, klass->type, sizeof(out->type));
	for (i = 0; i < VBUSD_MODULES; i++)
		if (klass == &vbusd.module[i].info)
			memcpy(out->path, vbusd.module[i].path, sizeof(out->path));
	return true;
}

/* A file that nobody but root and us could have written, or can change; -1 with one line of why. */
static int open_module(const char *path, char *text)
{
	struct stat st;
	int low, fd;

	if (path[0] != '/') {
		snprintf(text, VBUSD_TEXT_LEN, "a class needs the absolute path of its module");
		return -1;
	}
	if (vbus_judge_folder(path, text) < 0)
		return -1;
	low = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	fd = low < 0 ? -1 : fcntl(low, F_DUPFD_CLOEXEC, HIGH);
	if (fd < 0)
		snprintf(text, VBUSD_TEXT_LEN, "%.100s: %s", path, strerror(errno));
	if (low >= 0)
		close(low);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	if (S_ISREG(st.st_mode) && (!st.st_uid || st.st_uid == geteuid()) &&
	    !(st.st_mode & (S_IWGRP | S_IWOTH)))
		return fd;
	snprintf(text, VBUSD_TEXT_LEN, "%.90s: can be changed by others, or is no file; "
		 "use one that root owns", path);
	close(fd);
	return -1;
}

/* Without rights and descriptors; what the module does from here on is a stranger's doing. */
static _Noreturn void describe(int module, int answer, pid_t parent)
{
	char *const words[] = { "vbus-worker", "--describe", NULL };
	int program = open(vbusd.worker_path, O_RDONLY | O_CLOEXEC);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Above the numbers that the others are to have. */
	program = fcntl(program, F_DUPFD_CLOEXEC, HIGH);
	answer = fcntl(answer, F_DUPFD_CLOEXEC, HIGH);
	if (program < 0 || dup2(answer, VBUS_WORKER_FD) < 0 ||
	    dup2(module, VBUS_WORKER_MODULE_FD) < 0 ||
	    close_range(VBUS_WORKER_FD + 1, VBUS_WORKER_MODULE_FD - 1, 0) ||
	    close_range(VBUS_WORKER_MODULE_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC))
		_exit(127);
	if (!geteuid() && (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
			   setresuid(NOBODY, NOBODY, NOBODY) < 0))
		_exit(127);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent)
		_exit(127);
	/* By its descriptor: a user without rights may not come to where the program lies. */
	fexecve(program, words, environ);
	_exit(127);
}

static bool hear(int from, struct vbus_class_answer *a)
{
	struct pollfd p = { .fd = from, .events = POLLIN };

	return poll(&p, 1, ANSWER_MS) > 0 && read(from, a, sizeof(*a)) == (ssize_t)sizeof(*a);
}

static int ask(int module, struct vbus_class_answer *a)
{
	pid_t parent = getpid(), child;
	int answer[2];
	bool heard;

	if (pipe2(answer, O_CLOEXEC) < 0)
		return -1;
	child = fork();
	if (!child)
		describe(module, answer[1], parent);
	close(answer[1]);
	heard = child > 0 && hear(answer[0], a);
	close(answer[0]);
	if (child > 0) {
		kill(child, SIGKILL);
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
	}
	return heard ? 0 : -1;
}

/* A word of 1 to @size - 1 characters that can stand in a log line; nothing behind its end. */
static bool is_word(const char *word, size_t size)
{
	const char *ok = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
	size_t len = strnlen(word, size);

	if (!len || len == size || strspn(word, ok) != len)
		return false;
	while (len < size)
		if (word[len++])
			return false;
	return true;
}

/* Groups of their own number, one after another, then none. */
static bool features_are_ok(const struct vbus_class_info *info)
{
	uint32_t count = 0, i, k;

	while (count <= VBUSD_GROUPS && info->feature[count].bits)
		count++;
	for (i = 0; i < count; i++)
		for (k = 0; k < i; k++)
			if (info->feature[i].gid == info->feature[k].gid)
				return false;
	return count <= VBUSD_GROUPS;
}

static const char *fault_of(struct vbus_class_answer *a)
{
	const struct vbus_class_info *info = &a->info;
	char *c;

	a->why[sizeof(a->why) - 1] = 0;
	for (c = a->why; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	if (a->why[0])
		return a->why;
	if (!is_word(info->name, sizeof(info->name)) || !is_word(info->type, sizeof(info->type)))
		return "its name or type is no word";
	if (!info->version || info->backend > VBUS_BACKEND_IMAGE || !features_are_ok(info))
		return "its version, back end or feature groups are out of range";
	return NULL;
}

static enum vbusd_result take(struct vbusd_module *module, int fd, const char *path, char *text)
{
	struct vbus_class_answer a;
	const char *fault;

	if (ask(fd, &a) < 0) {
		snprintf(text, VBUSD_TEXT_LEN, "%.100s: did not say what it is", path);
		return VBUSD_SYSTEM;
	}
	fault = fault_of(&a);
	if (fault) {
		snprintf(text, VBUSD_TEXT_LEN, "%.60s: %.96s", path, fault);
		return VBUSD_UNKNOWN;
	}
	if (vbus_class_find(a.info.name)) {
		snprintf(text, VBUSD_TEXT_LEN, "class %s: exists", a.info.name);
		return VBUSD_EXISTS;
	}
	*module = (struct vbusd_module){ .used = true, .fd = fd, .info = a.info };
	snprintf(module->path, sizeof(module->path), "%s", path);
	vbus_class_add(&module->info);
	vbus_log(NULL, "class %s added (%s)", a.info.name, path);
	return VBUSD_OK;
}

static void let_go(struct vbusd_module *module)
{
	vbus_class_remove(&module->info);
	close(module->fd);
	*module = (struct vbusd_module){ 0 };
}

/* Place and path of each, for the next vbusd; -1 with why in @text. */
static int remember(char *text)
{
	char fresh[PATH_MAX], path[PATH_MAX];
	FILE *f;
	uint32_t i;

	vbusd_state_path("classes.new", "", fresh);
	vbusd_state_path("classes", "", path);
	unlink(fresh);
	f = fopen(fresh, "wxe");
	for (i = 0; f && i < VBUSD_MODULES; i++)
		if (vbusd.module[i].path[0])
			fprintf(f, "%u %s\n", i, vbusd.module[i].path);
	if (f && !fflush(f) && !fclose(f) && !rename(fresh, path))
		return 0;
	snprintf(text, VBUSD_TEXT_LEN, "%.90s: is not remembered (%s)", path, strerror(errno));
	return -1;
}

void vbusd_class_restore(void)
{
	char path[PATH_MAX], line[VBUSD_ARGUMENT_LEN + 16], text[VBUSD_TEXT_LEN];
	unsigned int place;
	int at, fd;
	FILE *f;

	vbusd_state_path("classes", "", path);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		/* In its own place: workers that live have it by that number. */
		if (sscanf(line, "%u %n", &place, &at) != 1 || place >= VBUSD_MODULES ||
		    vbusd.module[place].path[0] || strlen(line + at) >= VBUSD_ARGUMENT_LEN)
			continue;
		fd = open_module(line + at, text);
		if (fd >= 0 && take(&vbusd.module[place], fd, line + at, text)) {
			close(fd);
			fd = -1;
		}
		if (fd >= 0)
			continue;
		strcpy(vbusd.module[place].path, line + at);
		vbus_log(NULL, "a class is left out, and so are buses that use it (%s)", text);
	}
	if (f)
		fclose(f);
}

void vbusd_class_forget(void)
{
	char path[PATH_MAX];

	vbusd_state_path("classes", "", path);
	unlink(path);
}

/* The one that it was left out of, or a free one. */
static struct vbusd_module *place_of(const char *path)
{
	struct vbusd_module *m, *free = NULL;

	for (m = vbusd.module; m < vbusd.module + VBUSD_MODULES; m++)
		if (!m->used && !strcmp(m->path, path))
			return m;
		else if (!m->path[0] && !free)
			free = m;
	return free;
}

enum vbusd_result vbusd_class_add(const struct vbusd_request *q, char *text)
{
	struct vbusd_module *module = place_of(q->argument);
	enum vbusd_result result;
	int fd;

	if (!module) {
		snprintf(text, VBUSD_TEXT_LEN, "there are %u classes already", VBUSD_MODULES);
		return VBUSD_FULL;
	}
	fd = open_module(q->argument, text);
	if (fd < 0)
		return VBUSD_SYSTEM;
	result = take(module, fd, q->argument, text);
	if (result) {
		close(fd);
	} else if (remember(text) < 0) {
		let_go(module);
		result = VBUSD_SYSTEM;
	}
	return result;
}

enum vbusd_result vbusd_class_remove(const struct vbusd_request *q, char *text)
{
	const struct vbus_class_info *klass = vbus_class_find(q->klass);
	uint32_t count = klass ? users(klass) : 0, i, k;

	if (!klass) {
		snprintf(text, VBUSD_TEXT_LEN, "class %s: is not known", q->klass);
		return VBUSD_NO_ENTRY;
	}
	if (vbus_class_is_built_in(klass)) {
		snprintf(text, VBUSD_TEXT_LEN, "class %s: is built in", q->klass);
		return VBUSD_BUSY;
	}
	if (count) {
		snprintf(text, VBUSD_TEXT_LEN, "class %s: in use by %u device%s; remove those",
			 q->klass, count, count == 1 ? "" : "s");
		return VBUSD_BUSY;
	}
	for (i = 0; klass != &vbusd.module[i].info; i++)
		;
	/* A worker may still have it loaded; one of the same place and another class has not. */
	for (k = 0; k < VBUSD_BUSES; k++)
		if (vbusd.bus[k].used && (vbusd.bus[k].modules & 1u << i)) {
			vbusd.bus[k].modules &= ~(1u << i);
			vbusd_record_write(&vbusd.bus[k]);
		}
	let_go(&vbusd.module[i]);
	vbus_log(NULL, "class %s removed (asked for)", q->klass);
	return remember(text) < 0 ? VBUSD_SYSTEM : VBUSD_OK;
}
