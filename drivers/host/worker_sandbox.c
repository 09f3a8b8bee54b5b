// SPDX-License-Identifier: MIT
/*
 * worker_sandbox.c - what a worker gives up before it is told anything.
 *
 * In this order, because each step needs what a later one takes away: a namespace of users, limits,
 * the other namespaces, an empty root, the user, Landlock.  The system calls go last, in
 * worker_seccomp.c: threads and rings of the classes are made in between, since a thread that is
 * there already would keep its namespaces, and nobody who has two may enter one of users.
 *
 * A layer that the system refuses is missing in vbus_bus.sandbox, and whoever asked for all of them
 * gets no worker.  Only rights that cannot be given up end it in any case.
 *
 * Where sanitizers watch, the files stay: their reports read /proc and the program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "userns.h"
#include "worker.h"

/* 64 doorbells, 16 devices with two each, a dozen of its own; and as many for a hand-over. */
#define FILES		256
/* The threads of a class, and those that the kernel makes for an io_uring. */
#define TASKS		64
/* Rings count as locked memory of their user, whom all workers may share: 48 KiB each. */
#define LOCKED		(16u << 20)
/* A window of 256 MiB, 16 threads with stack and arena; far from what would trouble the host. */
#define ADDRESSES	(4ull << 30)

/* The worker's user in its namespace; whoever has no name there looks like 65534. */
#define INSIDE		1u

static const struct {
	uint32_t bit;
	int flag;		/* of unshare, where that is all there is to it */
	const char *name;
} layers[] = {
	{ VBUS_SANDBOX_USER, 0, "user" },
	{ VBUS_SANDBOX_PID, 0, "pid" },
	{ VBUS_SANDBOX_MOUNT, 0, "mount" },
	{ VBUS_SANDBOX_NET, CLONE_NEWNET, "net" },
	{ VBUS_SANDBOX_IPC, CLONE_NEWIPC, "ipc" },
	{ VBUS_SANDBOX_UTS, CLONE_NEWUTS, "uts" },
	{ VBUS_SANDBOX_CGROUP, CLONE_NEWCGROUP, "cgroup" },
	{ VBUS_SANDBOX_LANDLOCK, 0, "landlock" },
	{ VBUS_SANDBOX_SECCOMP, 0, "seccomp" },
};

#define LAYERS	(sizeof(layers) / sizeof(layers[0]))

static void limit(const struct vbus_bus *bus, int what, rlim_t most)
{
	struct rlimit old, new;

	if (getrlimit(what, &old) < 0)
		vbus_leave(bus, "a limit cannot be read");
	new.rlim_max = most < old.rlim_max ? most : old.rlim_max;
	new.rlim_cur = new.rlim_max;
	if (setrlimit(what, &new) < 0)
		vbus_leave(bus, "a limit cannot be set");
}

/*
 * RLIMIT_FSIZE stays: it counts offsets, and an image may be of any size; no file can be made or
 * opened anyway.  RLIMIT_NPROC counts in the namespace of users, so that comes first.
 */
static void limits(const struct vbus_bus *bus)
{
	limit(bus, RLIMIT_NOFILE, FILES);
	limit(bus, RLIMIT_CORE, 0);
	limit(bus, RLIMIT_MEMLOCK, LOCKED);
	limit(bus, RLIMIT_NPROC, TASKS);
	if (!VBUS_SANITIZED)
		limit(bus, RLIMIT_AS, ADDRESSES);
}

/* Root, in a process that stays outside: to name an id that is not one's own needs rights there. */
static int name_user(int dir, uid_t uid)
{
	char ids[64];

	/* Root has a name, so that vbusd can be told from everybody else by SO_PEERCRED. */
	snprintf(ids, sizeof(ids), "0 0 1\n%u %u 1\n", INSIDE, uid);
	if (vbus_userns_write(dir, "uid_map", ids) < 0)
		return -1;
	return vbus_userns_write(dir, "gid_map", ids);
}

static _Noreturn void helper(int dir, const int *go, uid_t uid)
{
	char word;

	close(go[1]);
	/* End of file: there is no namespace. */
	_exit(read(go[0], &word, 1) == 1 && !name_user(dir, uid) ? 0 : 1);
}

/* The namespace belongs to root: no other process of the worker's user has power over it. */
static bool user_namespace_of_root(const struct vbus_bus *bus, uid_t uid)
{
	int dir = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC), go[2], status = 0;
	bool made;
	pid_t pid;

	if (dir < 0)
		return false;
	if (pipe2(go, O_CLOEXEC) < 0)
		vbus_leave(bus, "no pipe");
	pid = fork();
	if (pid < 0)
		vbus_leave(bus, "no helper");
	if (!pid)
		helper(dir, go, uid);
	made = !unshare(CLONE_NEWUSER);
	if (made && write(go[1], "", 1) != 1)
		vbus_leave(bus, "the helper is gone");
	close(go[0]);
	close(go[1]);
	close(dir);
	if (waitpid(pid, &status, 0) != pid || (made && status))
		vbus_leave(bus, "the user namespace gets no names");
	return made;
}

static bool user_namespace_of_own(const struct vbus_bus *bus)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWUSER) < 0)
		return false;
	if (vbus_userns_name_self(uid, gid) < 0)
		vbus_leave(bus, "the user namespace gets no name");
	return true;
}

/* Nothing to see, nothing to write, and no way back: not even /proc. */
static bool empty_root(void)
{
	if (VBUS_SANITIZED || unshare(CLONE_NEWNS) < 0)
		return false;
	/* /proc is the one folder that is sure to be there. */
	if (mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("vbus-worker", "/proc", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  "mode=0555,size=4k,nr_inodes=2") < 0 ||
	    chdir("/proc") < 0)
		return false;
	/* The old root lies on top of the new one then, and is taken away. */
	return !syscall(SYS_pivot_root, ".", ".") && !umount2(".", MNT_DETACH) && !chdir("/");
}

static void namespaces(struct vbus_bus *bus)
{
	uint32_t i;

	/* vbusd makes this one: who asks for it stays outside. */
	if (getpid() == 1)
		bus->sandbox |= VBUS_SANDBOX_PID;
	for (i = 0; i < LAYERS; i++)
		if (layers[i].flag && !unshare(layers[i].flag))
			bus->sandbox |= layers[i].bit;
	if (empty_root())
		bus->sandbox |= VBUS_SANDBOX_MOUNT;
}

/* Without a namespace of users, the worker of an ordinary user has no right to do even this. */
static void drop_bounds(const struct vbus_bus *bus)
{
	int i;

	for (i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
		if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0 && errno != EPERM)
			vbus_leave(bus, "capabilities cannot be given up for good");
}

static void drop_capabilities(const struct vbus_bus *bus)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	/* Kernels that know no ambient capabilities have none to clear. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		vbus_leave(bus, "ambient capabilities cannot be given up");
	if (syscall(SYS_capset, &head, none) < 0)
		vbus_leave(bus, "capabilities cannot be given up");
}

static void become(const struct vbus_bus *bus, uid_t uid)
{
	if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
		vbus_leave(bus, "root cannot be given up");
}

/* Everything that this kernel's Landlock knows, and no rule that allows any of it. */
static bool landlock(void)
{
	/* The header of the build may be older than the kernel, so the structure is our own. */
	struct {
		uint64_t files, ports, scopes;
	} all = { 0 };
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	size_t size = sizeof(all.files);
	bool held;
	int fd;

	if (VBUS_SANITIZED || abi < 1)
		return false;
	/* ABI 1: 13 rights; 2: refer; 3: truncate; 5: ioctl on devices. */
	all.files = (1u << (abi >= 5 ? 16 : abi >= 3 ? 15 : abi >= 2 ? 14 : 13)) - 1;
	if (abi >= 4) {
		all.ports = 3;		/* TCP: bind, connect */
		size = 2 * sizeof(uint64_t);
	}
	if (abi >= 6) {
		all.scopes = 3;		/* abstract UNIX sockets, signals: to its like only */
		size = sizeof(all);
	}
	fd = (int)syscall(SYS_landlock_create_ruleset, &all, size, 0);
	if (fd < 0)
		return false;
	held = !syscall(SYS_landlock_restrict_self, fd, 0);
	close(fd);
	return held;
}

void vbus_sandbox(struct vbus_bus *bus, uid_t uid)
{
	bool root = !geteuid();
	bool named = root ? user_namespace_of_root(bus, uid) : user_namespace_of_own(bus);

	limits(bus);
	/* A user that no other worker has is as good as a namespace. */
	if (named || (root && uid != VBUS_WORKER_NOBODY))
		bus->sandbox |= VBUS_SANDBOX_USER;
	namespaces(bus);
	/* While there is the right to: it goes with the user. */
	drop_bounds(bus);
	if (root)
		become(bus, named ? INSIDE : uid);
	drop_capabilities(bus);
	/* Nobody of this user reads its memory; after the change of user, which decides it anew. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		vbus_leave(bus, "its memory cannot be closed");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		vbus_leave(bus, "no-new-privileges is refused");
	if (landlock())
		bus->sandbox |= VBUS_SANDBOX_LANDLOCK;
}

void vbus_sandbox_judge(const struct vbus_bus *bus, bool required)
{
	char missing[128];
	size_t used = 0;
	uint32_t i;

	for (i = 0; i < LAYERS; i++)
		if (!(bus->sandbox & layers[i].bit))
			used += (size_t)snprintf(missing + used, sizeof(missing) - used, " %s",
						 layers[i].name);
	if (!used)
		return;
	vbus_log(NULL, "the sandbox lacks:%s", missing);
	if (required)
		_exit(1);
}
