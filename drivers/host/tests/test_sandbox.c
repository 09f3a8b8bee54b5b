// SPDX-License-Identifier: MIT
/* A real worker of a real vbusd, looked at from outside: what it is, holds and may. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "north.h"
#include "tap.h"
#include "worker_abi.h"

#define ALL		0x1ffu	/* enum vbus_sandbox */
/* Reports of sanitizers need files, and calls that a worker does not make. */
#define LEFT_OUT	(VBUS_SANDBOX_MOUNT | VBUS_SANDBOX_LANDLOCK | VBUS_SANDBOX_SECCOMP)
#define EXPECTED	(VBUS_SANITIZED ? ALL & ~LEFT_OUT : ALL)

static struct rig rig;
static struct vbus_client north;

static struct vbusd_bus_status status_of(uint32_t index)
{
	struct vbusd_bus_status s = { 0 };

	rig_bus_status(&rig, index, &s);
	return s;
}

static bool has_epoch(uint32_t index)
{
	return status_of(index).epoch && status_of(index).worker > 0;
}

static bool stand(char *const *words)
{
	return rig_start_with(&rig, words) && rig_add_bus(&rig) && RIG_UNTIL(has_epoch(0));
}

static void setup(void)
{
	if (!stand((char *const []) { NULL }))
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	rig_stop(&rig);
}

static bool restart(char *const *words)
{
	rig_stop(&rig);
	return stand(words);
}

/* A line of /proc/PID/@file that starts with @word, without it. */
static bool find_line(pid_t pid, const char *file, const char *word, char *out, size_t size)
{
	char path[64], line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		found = !strncmp(line, word, strlen(word));
		if (found)
			snprintf(out, size, "%s", line + strlen(word));
	}
	if (f)
		fclose(f);
	return found;
}

static uint64_t number(pid_t pid, const char *word, int base)
{
	char text[256];

	return find_line(pid, "status", word, text, sizeof(text)) ? strtoull(text, NULL, base) :
								    UINT64_MAX;
}

static bool test_the_status_names_every_layer_that_a_worker_has(void)
{
	CHECK(status_of(0).sandbox == EXPECTED);
	return true;
}

static bool test_a_worker_has_another_user_and_no_group(void)
{
	pid_t worker = status_of(0).worker;
	char text[256];

	CHECK(find_line(worker, "status", "Uid:", text, sizeof(text)));
	CHECK(geteuid() || !strcmp(text, "\t65534\t65534\t65534\t65534\n"));
	CHECK(find_line(worker, "status", "Gid:", text, sizeof(text)));
	CHECK(geteuid() || !strcmp(text, "\t65534\t65534\t65534\t65534\n"));
	CHECK(find_line(worker, "status", "Groups:", text, sizeof(text)));
	CHECK(geteuid() || !strtoul(text, NULL, 10));
	return true;
}

static bool test_a_worker_has_no_capability_and_gets_none(void)
{
	static const char *const sets[] = { "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:" };
	pid_t worker = status_of(0).worker;
	uint32_t i;

	for (i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		CHECK(number(worker, sets[i], 16) == 0);
	CHECK(number(worker, "NoNewPrivs:", 10) == 1);
	CHECK(number(worker, "Seccomp:", 10) == (VBUS_SANITIZED ? 0 : SECCOMP_MODE_FILTER));
	return true;
}

static const char *const spaces[] = { "user", "pid", "mnt", "net", "ipc", "uts", "cgroup" };

/* Another user's, or one that closed its memory: only root may look. */
static bool is_same(pid_t a, pid_t b, const char *space)
{
	char path[64], left[64] = "", right[64] = "";

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)a, space);
	if (readlink(path, left, sizeof(left) - 1) < 0)
		return true;
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)b, space);
	if (readlink(path, right, sizeof(right) - 1) < 0)
		return true;
	return !strcmp(left, right);
}

static bool shares_a_namespace(pid_t a, pid_t b)
{
	uint32_t i;

	for (i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
		if (VBUS_SANITIZED && !strcmp(spaces[i], "mnt"))
			continue;
		if (!is_same(a, b, spaces[i]))
			continue;
		fprintf(stderr, "# %s is shared\n", spaces[i]);
		return true;
	}
	return false;
}

static bool add_second_bus(void)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_ADD);

	strcpy(q.bus, "c");
	q.window_mib = 1;
	q.vectors = 8;
	snprintf(q.argument, sizeof(q.argument), "%.90s/qemu2", rig.dir);
	return rig_ask(&rig, &q, NULL) == VBUSD_OK && RIG_UNTIL(has_epoch(1));
}

static bool test_a_worker_shares_no_namespace_with_vbusd_or_with_another(void)
{
	CHECK(add_second_bus());
	if (geteuid())
		return true;
	CHECK(!shares_a_namespace(status_of(0).worker, rig.vbusd));
	CHECK(!shares_a_namespace(status_of(0).worker, status_of(1).worker));
	return true;
}

static bool test_a_worker_sees_an_empty_root(void)
{
	char path[64];
	uint32_t seen = 0;
	struct dirent *e;
	DIR *root;

	if (geteuid() || VBUS_SANITIZED)
		return true;
	snprintf(path, sizeof(path), "/proc/%d/root/", (int)status_of(0).worker);
	root = opendir(path);
	CHECK(root);
	while ((e = readdir(root)))
		seen += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(root);
	CHECK(!seen);
	return true;
}

static bool test_the_memory_of_a_worker_is_closed_to_its_user(void)
{
	struct stat st;
	char path[64];

	/* The owner of such a file is root when the process is not dumpable. */
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)status_of(0).worker);
	CHECK(!stat(path, &st) && !st.st_uid);
	return true;
}

/* How many descriptors the worker has whose name starts so. */
static uint32_t count(pid_t pid, const char *what)
{
	char folder[64], path[400], name[256];
	uint32_t found = 0;
	struct dirent *e;
	ssize_t len;
	DIR *all;

	snprintf(folder, sizeof(folder), "/proc/%d/fd", (int)pid);
	all = opendir(folder);
	while (all && (e = readdir(all))) {
		snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
		len = readlink(path, name, sizeof(name) - 1);
		if (len < 0)
			continue;
		name[len] = 0;
		found += !strncmp(name, what, strlen(what));
	}
	if (all)
		closedir(all);
	return found;
}

static bool test_a_worker_has_the_descriptors_of_its_bus_and_no_other(void)
{
	pid_t worker = status_of(0).worker;

	if (geteuid())
		return true;
	/* From vbusd, and for the next vbusd. */
	CHECK(count(worker, "socket:") == 2);
	CHECK(count(worker, "/memfd:vbus-") == 2);
	CHECK(count(worker, "anon_inode:[eventpoll]") == 1);
	CHECK(count(worker, "anon_inode:[timerfd]") == 3);
	/* The doorbells, and the one of the ring for images. */
	CHECK(count(worker, "anon_inode:[eventfd]") == 16 + 1);
	CHECK(count(worker, "anon_inode:[io_uring]") == 1);
	/* And the usual three: nothing to read, nowhere to write but to the log. */
	CHECK(count(worker, "/dev/null") == 2 && count(worker, rig.log_path) == 1);
	CHECK(count(worker, "") == 3 + 2 + 2 + 1 + 3 + 17 + 1);
	return true;
}

static uint64_t limit(pid_t pid, const char *word)
{
	char text[256];

	return find_line(pid, "limits", word, text, sizeof(text)) ? strtoull(text, NULL, 10) :
								    UINT64_MAX;
}

static bool test_a_worker_has_narrow_limits(void)
{
	pid_t worker = status_of(0).worker;

	CHECK(limit(worker, "Max open files") == 256);
	CHECK(limit(worker, "Max processes") == 64);
	CHECK(limit(worker, "Max core file size") == 0);
	CHECK(limit(worker, "Max locked memory") >= 1 << 20 &&
	      limit(worker, "Max locked memory") <= 16 << 20);
	CHECK(VBUS_SANITIZED || limit(worker, "Max address space") == 4ull << 30);
	return true;
}

static bool test_each_bus_can_have_a_user_of_its_own(void)
{
	if (geteuid())
		return true;
	CHECK(restart((char *const []) { "--worker-users", "70000-70063", NULL }));
	CHECK(add_second_bus());
	CHECK(number(status_of(0).worker, "Uid:", 10) == 70000);
	CHECK(number(status_of(1).worker, "Uid:", 10) == 70001);
	CHECK(number(status_of(1).worker, "Gid:", 10) == 70001);
	return true;
}

/* The exit code of a vbusd that could not serve anyway. */
static int code_with_users(const char *range)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		execl(getenv("VBUSD"), "vbusd", "--socket", "/nowhere/socket", "--worker-users",
		      range, (char *)NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool test_users_that_are_too_few_or_root_are_refused(void)
{
	static const char *const ranges[] = {
		"70000-70062", "0-100", "7-", "x", "", "70000-5", "-1", "4294967290", "5 ",
	};
	uint32_t i;

	for (i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		CHECK(code_with_users(ranges[i]) == 2);
	CHECK(code_with_users("70000") == 1 && code_with_users("70000-70063") == 1);
	return true;
}

static bool test_a_required_sandbox_is_had_or_nobody_serves(void)
{
	char *const words[] = { "--require-sandbox", NULL };

	rig_stop(&rig);
	CHECK(rig_start_with(&rig, words) && rig_add_bus(&rig));
	if (EXPECTED == ALL) {
		CHECK(RIG_UNTIL(has_epoch(0)));
		return true;
	}
	CHECK(rig_logged(&rig, "the sandbox lacks: mount landlock seccomp"));
	CHECK(rig_logged(&rig, "died (exit code 1)") && !status_of(0).epoch);
	return true;
}

static bool test_vbusd_keeps_the_rights_it_needs_and_no_other(void)
{
	const uint64_t kept = 1ull << CAP_NET_ADMIN | 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE |
			      1ull << CAP_KILL | 1ull << CAP_SETUID | 1ull << CAP_SETGID |
			      1ull << CAP_SETFCAP | 1ull << CAP_SETPCAP | 1ull << CAP_SYS_ADMIN |
			      1ull << CAP_SYS_RESOURCE;

	CHECK(number(rig.vbusd, "NoNewPrivs:", 10) == 1);
	if (geteuid())
		return true;
	CHECK(!(number(rig.vbusd, "CapEff:", 16) & ~kept));
	CHECK(!(number(rig.vbusd, "CapPrm:", 16) & ~kept));
	CHECK(!(number(rig.vbusd, "CapBnd:", 16) & ~kept));
	return true;
}

/* This program is its own bad worker: one that makes a call which its filter does not allow. */
static _Noreturn void be_killed_by_a_filter(void)
{
	struct sock_filter kill_all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS) };
	struct sock_fprog filter = { .len = 1, .filter = kill_all };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
	_exit(0);
}

static bool test_the_log_names_the_end_of_a_worker_that_made_a_refused_call(void)
{
	char self[256] = "";

	rig_stop(&rig);
	CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	CHECK(rig_start_with(&rig, (char *const []) { "--worker", self, NULL }));
	CHECK(rig_add_bus(&rig));
	CHECK(rig_logged(&rig, "died (signal 31: a system call was refused)"));
	return true;
}

static bool test_a_guest_is_served_within_all_this(void)
{
	struct vbusd_request dev = rig_device("venet-loopback", 1);
	struct north_echo echo = { .count = 500 };
	struct vbus_client_net net;

	CHECK(!rig_ask(&rig, &dev, NULL) && north_open(&north, &rig, 8));
	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(north_echo(&north, &net, 1, &echo));
	CHECK(!status_of(0).restarts);
	north_close(&north);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_the_status_names_every_layer_that_a_worker_has),
	TEST(test_a_worker_has_another_user_and_no_group),
	TEST(test_a_worker_has_no_capability_and_gets_none),
	TEST(test_a_worker_shares_no_namespace_with_vbusd_or_with_another),
	TEST(test_a_worker_sees_an_empty_root),
	TEST(test_the_memory_of_a_worker_is_closed_to_its_user),
	TEST(test_a_worker_has_the_descriptors_of_its_bus_and_no_other),
	TEST(test_a_worker_has_narrow_limits),
	TEST(test_each_bus_can_have_a_user_of_its_own),
	TEST(test_users_that_are_too_few_or_root_are_refused),
	TEST(test_a_required_sandbox_is_had_or_nobody_serves),
	TEST(test_vbusd_keeps_the_rights_it_needs_and_no_other),
	TEST(test_the_log_names_the_end_of_a_worker_that_made_a_refused_call),
	TEST(test_a_guest_is_served_within_all_this),
};

/* vbusd has a group and an open input, so that a worker could have them too. */
static bool give_vbusd_more(void)
{
	const gid_t group = 4321;
	int ends[2];

	return !pipe(ends) && !dup2(ends[0], STDIN_FILENO) && (geteuid() || !setgroups(1, &group));
}

int main(int argc, char **argv)
{
	if (argc && !strcmp(argv[0], "vbus-worker"))
		be_killed_by_a_filter();
	if (!give_vbusd_more())
		return 1;
	return TAP_RUN(tests, setup, teardown);
}
