// SPDX-License-Identifier: MIT
/*
 * control_tree.c - the tree of files: the model walked by path, and writing that is asking vbusd.
 *
 * The kernel caches nothing of it.  Who walks through it asks for the same again and again, so what
 * vbusd said is kept for a moment; whatever vbusd tells of ends that moment, and only counters and
 * states that nobody tells of can be that old.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "log.h"

#define WORDS		5
#define PATH_ROOM	1024
#define FILE_SIZE	4096	/* as sysfs shows it: the size is known once it is read */
#define WRITE_MAX	255
#define KEPT_MS		100u
/* The mount of an ordinary user; root makes its own. */
#define USER_OPTIONS	"default_permissions,fsname=vbus,subtype=vbus"

static struct fuse *tree;
static struct fuse_session *session;
static struct fuse_buf buffer;
static struct timespec started;

struct path {
	char room[PATH_ROOM];
	const char *word[WORDS];
	uint32_t count;
};

static int split(const char *text, struct path *p)
{
	char *save, *word;

	p->count = 0;
	if (strlen(text) >= sizeof(p->room))
		return -ENAMETOOLONG;
	strcpy(p->room, text);
	for (word = strtok_r(p->room, "/", &save); word; word = strtok_r(NULL, "/", &save)) {
		if (p->count == WORDS)
			return -ENOENT;
		p->word[p->count++] = word;
	}
	return 0;
}

static bool is_in(const struct path *p, const char *top, uint32_t count)
{
	return p->count == count && !strcmp(p->word[0], top);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static json_t *kept(json_t *(*ask)(int *err), int *err)
{
	static struct {
		json_t *value;
		uint32_t changes;
		uint64_t until;
	} all[2];
	uint32_t i = ask == control_buses;
	bool is_told = control_vbusd_news();

	if (!is_told || all[i].changes != control.changes || now_ms() >= all[i].until) {
		json_decref(all[i].value);
		all[i].changes = control.changes;
		all[i].value = ask(err);
		all[i].until = *err ? 0 : now_ms() + KEPT_MS;
	}
	return json_incref(all[i].value);
}

/* The top, with the folder that is asked for filled. */
static json_t *model(const struct path *p, bool filled, int *err)
{
	json_t *top = json_pack("{s:s, s:s, s:{}, s:{}, s:{}}", "version", "1", "last_error",
				control.error, "deviceclass", "devices", "instances");
	const char *name = p->count ? p->word[0] : "";
	json_t *one;

	if (p->count + filled < 2)
		return top;
	if (!strcmp(name, "deviceclass")) {
		json_object_set_new(top, name, control_classes());
	} else if (!strcmp(name, "devices")) {
		json_object_set_new(top, name, kept(control_devices, err));
		one = p->count > 1 ? json_object_get(json_object_get(top, name), p->word[1]) : NULL;
		/* A shell is there without vbusd; whether it is connected is not known then. */
		if (*err && ((p->count == 2 && one) || p->count == 1))
			*err = 0;
	} else if (!strcmp(name, "instances")) {
		json_object_set_new(top, name, kept(control_buses, err));
	}
	return top;
}

/* A new reference, or NULL with *@err. */
static json_t *find(const char *text, bool filled, struct path *p, int *err)
{
	json_t *top, *at;
	uint32_t i;

	*err = split(text, p);
	if (*err)
		return NULL;
	at = top = model(p, filled, err);
	for (i = 0; i < p->count && at; i++)
		at = json_object_get(at, p->word[i]);
	if (!at && !*err)
		*err = -ENOENT;
	if (!*err)
		json_incref(at);
	json_decref(top);
	return *err ? NULL : at;
}

static bool is_writable(const struct path *p)
{
	return is_in(p, "devices", 3) &&
	       (!strcmp(p->word[2], "type") || control_device_has(NULL, p->word[2]));
}

static mode_t mode_of(const json_t *at, const struct path *p)
{
	if (json_is_object(at))
		return S_IFDIR | 0755;
	if (json_is_null(at))
		return S_IFLNK | 0777;
	if (p->count == 3 && !strcmp(p->word[2], "mask"))
		return S_IFREG | 0200;
	return S_IFREG | (is_writable(p) ? 0644 : 0444);
}

static int get_attributes(const char *text, struct stat *st, struct fuse_file_info *info)
{
	struct path p;
	int err;
	json_t *at = find(text, false, &p, &err);

	if (!at)
		return err;
	memset(st, 0, sizeof(*st));
	st->st_mode = mode_of(at, &p);
	st->st_nlink = json_is_object(at) ? 2 : 1;
	st->st_uid = control.owner;
	st->st_size = json_is_null(at) ? (off_t)(strlen("../../devices/") + strlen(p.word[2])) :
		      json_is_object(at) ? 0 : FILE_SIZE;
	st->st_atim = st->st_mtim = st->st_ctim = started;
	json_decref(at);
	return 0;
}

static int read_folder(const char *text, void *out, fuse_fill_dir_t fill, off_t offset,
		       struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
	struct path p;
	int err;
	json_t *at = find(text, true, &p, &err), *child;
	const char *name;

	if (!at)
		return err;
	fill(out, ".", NULL, 0, 0);
	fill(out, "..", NULL, 0, 0);
	json_object_foreach(at, name, child)
		fill(out, name, NULL, 0, 0);
	json_decref(at);
	return 0;
}

static int read_link(const char *text, char *out, size_t size)
{
	struct path p;
	int err;
	json_t *at = find(text, false, &p, &err);

	if (!at)
		return err;
	snprintf(out, size, "../../devices/%s", p.word[2]);
	json_decref(at);
	return 0;
}

/* To be freed. */
static char *file_text(const json_t *at)
{
	const json_t *line;
	char *text = NULL;
	size_t len, i;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	if (json_is_integer(at))
		fprintf(out, "%lld\n", (long long)json_integer_value(at));
	else if (json_is_string(at))
		fprintf(out, "%s\n", json_string_value(at));
	json_array_foreach(at, i, line)
		fprintf(out, "%s\n", json_string_value(line));
	fclose(out);
	return text;
}

/* The text is that of this moment, so that it does not change under who reads it bit by bit. */
static int open_file(const char *text, struct fuse_file_info *info)
{
	struct path p;
	int err;
	json_t *at = find(text, false, &p, &err);

	if (!at)
		return err;
	if ((info->flags & O_ACCMODE) != O_RDONLY && !is_writable(&p))
		err = -EACCES;
	info->direct_io = 1;
	info->fh = err ? 0 : (uintptr_t)file_text(at);
	json_decref(at);
	return err;
}

static int read_file(const char *text, char *out, size_t size, off_t offset,
		     struct fuse_file_info *info)
{
	const char *now = (const char *)(uintptr_t)info->fh;
	size_t len = now ? strlen(now) : 0;

	if ((size_t)offset >= len)
		return 0;
	len -= (size_t)offset;
	memcpy(out, now + offset, len < size ? len : size);
	return (int)(len < size ? len : size);
}

static int close_file(const char *text, struct fuse_file_info *info)
{
	free((char *)(uintptr_t)info->fh);
	return 0;
}

/* One line, all of it in one write. */
static int write_file(const char *text, const char *in, size_t size, off_t offset,
		      struct fuse_file_info *info)
{
	char line[WRITE_MAX + 1];
	struct path p;
	size_t len = size;
	int err = split(text, &p);

	if (err)
		return err;
	if (len && in[len - 1] == '\n')
		len--;
	if (offset || len > WRITE_MAX || memchr(in, 0, len) || memchr(in, '\n', len))
		return control_refuse(EINVAL, "%.90s: wants one line", text);
	memcpy(line, in, len);
	line[len] = 0;
	err = control_device_set(p.word[1], p.word[2], line);
	return err ? err : (int)size;
}

/* What a shell's > does before it writes. */
static int truncate_file(const char *text, off_t size, struct fuse_file_info *info)
{
	struct path p;

	return split(text, &p) || !is_writable(&p) ? -EACCES : 0;
}

static int make_folder(const char *text, mode_t mode)
{
	struct path p;
	int err = split(text, &p);

	if (err)
		return err;
	if (is_in(&p, "devices", 2))
		return control_device_make(p.word[1]);
	if (is_in(&p, "instances", 2))
		return control_bus_add(p.word[1], VBUSD_IVSHMEM, CONTROL_WINDOW_MIB,
				       VBUS_VECTORS_MIN, NULL);
	return -EPERM;
}

static int remove_folder(const char *text)
{
	struct path p;
	int err = split(text, &p);

	if (err)
		return err;
	if (is_in(&p, "devices", 2))
		return control_device_forget(p.word[1]);
	if (is_in(&p, "instances", 2))
		return control_bus_remove(p.word[1]);
	return -EPERM;
}

/* From wherever the tree is seen, the target's end is devices/NAME. */
static int make_link(const char *target, const char *text)
{
	const char *last = strrchr(target, '/');
	struct path p;
	int err = split(text, &p);

	if (err)
		return err;
	if (!is_in(&p, "instances", 3))
		return -EPERM;
	if (!last || last - target < 7 || strncmp(last - 7, "devices", 7) ||
	    strcmp(last + 1, p.word[2]))
		return control_refuse(EINVAL, "%.60s: a link into an instance is called like its "
				      "device, such as ../../devices/%.60s", text, p.word[2]);
	return control_device_connect(p.word[1], p.word[2]);
}

static int remove_link(const char *text)
{
	struct path p;
	int err;
	json_t *at = find(text, false, &p, &err);

	if (!at)
		return err;
	err = json_is_null(at) ? control_device_disconnect(p.word[1], p.word[2]) : -EPERM;
	json_decref(at);
	return err;
}

static int make_file(const char *text, mode_t mode, dev_t device)
{
	return -EPERM;
}

static void *set_up(struct fuse_conn_info *connection, struct fuse_config *config)
{
	connection->want &= ~(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;
	config->hard_remove = 1;
	return NULL;
}

static const struct fuse_operations operations = {
	.init = set_up,
	.getattr = get_attributes,
	.readdir = read_folder,
	.readlink = read_link,
	.open = open_file,
	.read = read_file,
	.write = write_file,
	.release = close_file,
	.truncate = truncate_file,
	.mkdir = make_folder,
	.rmdir = remove_folder,
	.symlink = make_link,
	.unlink = remove_link,
	.mknod = make_file,
};

int control_tree_open(const char *mountpoint, bool as_root, bool allow_other)
{
	char *argv[] = { "vbus-control", "-o",
			 allow_other ? USER_OPTIONS ",allow_other" : USER_OPTIONS, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(as_root ? 1 : 3, argv);
	char where[64];
	int fd = -1, err = control_unmount_stale(mountpoint, as_root);

	if (err)
		return err;
	clock_gettime(CLOCK_REALTIME, &started);
	if (as_root) {
		fd = control_mount(mountpoint, allow_other);
		if (fd < 0)
			return -EIO;
		/* libfuse takes a mount that exists already under this name. */
		snprintf(where, sizeof(where), "/dev/fd/%d", fd);
	}
	tree = fuse_new(&args, &operations, sizeof(operations), NULL);
	fuse_opt_free_args(&args);
	if (!tree)
		return control_refuse(EIO, "libfuse cannot be started");
	session = fuse_get_session(tree);
	if (fuse_session_mount(session, as_root ? where : mountpoint))
		return control_refuse(EIO, "%.90s: cannot be mounted on", mountpoint);
	fd = fuse_session_fd(session);
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || control_watch(fd, CONTROL_TREE, 0) < 0)
		return control_refuse(EIO, "the tree cannot be watched (%s)", strerror(errno));
	return 0;
}

void control_tree_serve(void)
{
	int got = fuse_session_receive_buf(session, &buffer);

	if (got > 0)
		fuse_session_process_buf(session, &buffer);
	if (got == -EINTR || got == -EAGAIN || !fuse_session_exited(session))
		return;
	vbus_log(NULL, "the tree was unmounted by somebody else; start again to have it back");
	control_tree_close();
}

void control_tree_close(void)
{
	if (!session)
		return;
	fuse_session_unmount(session);
	control_unmount();
	fuse_destroy(tree);
	free(buffer.mem);
	session = NULL;
}
