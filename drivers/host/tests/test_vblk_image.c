// SPDX-License-Identifier: MIT
/* Which images vblk-file takes, whom it shares them with, and what a full or odd one does to it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "north_disk.h"
#include "tap.h"

#define SIZE	(2u << 20)

static struct rig rig;
static struct vbus_client north;
static struct north_disk disk;
static char dir[32];

static const char *in_dir(const char *name)
{
	static char path[2][64];
	static uint32_t turn;

	snprintf(path[++turn % 2], sizeof(path[0]), "%s/%s", dir, name);
	return path[turn % 2];
}

static bool make(const char *name, off_t size)
{
	int fd = open(in_dir(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	bool done = fd >= 0 && !ftruncate(fd, size);

	close(fd);
	return done;
}

static void setup(void)
{
	strcpy(dir, "/tmp/vblk-image-XXXXXX");
	memset(&north, 0, sizeof(north));
	if (!mkdtemp(dir) || mount("none", dir, "tmpfs", 0, "size=16m") < 0 ||
	    !make("disk", SIZE) || !rig_start(&rig) || !rig_add_bus(&rig))
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	north_close(&north);
	rig_stop(&rig);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
}

/* The answer to adding disk @number to @bus; its words are in @text. */
static enum vbusd_result add(const char *bus, uint8_t number, const char *path, uint32_t flags,
			     char *text)
{
	struct vbusd_request q = rig_device("vblk-file", number);

	q.flags = flags;
	snprintf(q.bus, sizeof(q.bus), "%s", bus);
	snprintf(q.argument, sizeof(q.argument), "%s", path);
	return rig_ask(&rig, &q, text);
}

static bool remove_disk(uint8_t number)
{
	struct vbusd_request q = rig_device("", number);

	q.op = VBUSD_DEVICE_REMOVE;
	return rig_ask(&rig, &q, NULL) == VBUSD_OK;
}

static bool add_second_bus(void)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_ADD);

	strcpy(q.bus, "second");
	q.window_mib = 1;
	q.vectors = 8;
	snprintf(q.argument, sizeof(q.argument), "%s/second", rig.dir);
	return rig_ask(&rig, &q, NULL) == VBUSD_OK;
}

static bool drive(void)
{
	return north_open(&north, &rig, 8) && north_negotiate(&north) &&
	       RIG_UNTIL(north_disk_open(&north, &disk, 1, DISK_ALL));
}

/* A command line's end: 0 when it went well; what it said is in the log of the rig. */
static int sh(const char *command)
{
	char line[256];
	int rc;

	snprintf(line, sizeof(line), "{ %s; } >>%s 2>&1", command, rig.log_path);
	rc = system(line);
	return WIFEXITED(rc) ? WEXITSTATUS(rc) : -1;
}

static int qemu(const char *words, const char *more)
{
	char line[128];

	snprintf(line, sizeof(line), "%s %s %s", words, in_dir("disk"), more);
	return sh(line);
}

static bool test_qemus_tools_are_refused_in_words_while_a_bus_has_the_image(void)
{
	if (sh("qemu-io --version") || sh("qemu-img --version"))
		return true;
	CHECK(add("b", 1, in_dir("disk"), 0, NULL) == VBUSD_OK);
	CHECK(qemu("qemu-io -f raw -c 'write 0 512'", "") != 0);
	CHECK(rig_logged(&rig, "Failed to lock byte 100"));
	CHECK(qemu("qemu-img resize -f raw", "4M") != 0);
	CHECK(qemu("qemu-io -r -f raw -c 'read 0 512'", "") != 0);
	CHECK(remove_disk(1));
	CHECK(RIG_UNTIL(qemu("qemu-io -f raw -c 'write 0 512'", "") == 0));
	return true;
}

static bool test_readers_share_an_image_with_readers_and_with_no_writer(void)
{
	char text[VBUSD_TEXT_LEN];

	CHECK(add_second_bus());
	CHECK(add("b", 1, in_dir("disk"), VBUSD_READ_ONLY, NULL) == VBUSD_OK);
	CHECK(add("second", 1, in_dir("disk"), VBUSD_READ_ONLY, NULL) == VBUSD_OK);
	CHECK(add("second", 2, in_dir("disk"), 0, text) == VBUSD_SYSTEM &&
	      strstr(text, "another bus, QEMU or qemu-img has it"));
	if (!sh("qemu-io --version")) {
		CHECK(qemu("qemu-io -r -f raw -c 'read 0 512'", "") == 0);
		CHECK(qemu("qemu-io -f raw -c 'write 0 512'", "") != 0);
	}
	return true;
}

static bool test_a_second_writer_is_refused_at_once_and_a_reader_too(void)
{
	char text[VBUSD_TEXT_LEN];

	CHECK(add_second_bus() && add("b", 1, in_dir("disk"), 0, NULL) == VBUSD_OK);
	CHECK(add("second", 1, in_dir("disk"), 0, text) == VBUSD_SYSTEM &&
	      strstr(text, "another bus"));
	CHECK(add("second", 1, in_dir("disk"), VBUSD_READ_ONLY, text) == VBUSD_SYSTEM &&
	      strstr(text, "another bus"));
	CHECK(remove_disk(1));
	CHECK(RIG_UNTIL(add("second", 1, in_dir("disk"), 0, NULL) == VBUSD_OK));
	return true;
}

static pid_t qemu_io(int *to)
{
	int pipes[2];
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (!pid) {
		dup2(pipes[0], 0);
		if (!freopen(in_dir("said"), "w", stdout))
			_exit(126);
		execlp("qemu-io", "qemu-io", "-f", "raw", in_dir("disk"), (char *)NULL);
		_exit(127);
	}
	close(pipes[0]);
	*to = pipes[1];
	return pid;
}

/* Somebody has locked the byte that says "I write". */
static bool has_writer(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_start = 101, .l_len = 1 };
	int fd = open(in_dir("disk"), O_RDWR | O_CLOEXEC);
	bool has = fd >= 0 && !fcntl(fd, F_OFD_GETLK, &lock) && lock.l_type != F_UNLCK;

	close(fd);
	return has;
}

static bool test_what_qemu_has_is_refused_in_words(void)
{
	char text[VBUSD_TEXT_LEN] = "";
	pid_t pid;
	int to;

	if (sh("qemu-io --version"))
		return true;
	pid = qemu_io(&to);
	CHECK(pid > 0 && RIG_UNTIL(has_writer()));
	CHECK(add("b", 1, in_dir("disk"), 0, text) == VBUSD_SYSTEM &&
	      strstr(text, "QEMU or qemu-img has it"));
	CHECK(add("b", 1, in_dir("disk"), VBUSD_READ_ONLY, text) == VBUSD_SYSTEM);
	CHECK(write(to, "quit\n", 5) == 5);
	close(to);
	waitpid(pid, NULL, 0);
	CHECK(add("b", 1, in_dir("disk"), 0, NULL) == VBUSD_OK);
	return true;
}

static bool test_an_image_that_cannot_be_is_refused_in_words(void)
{
	struct vbusd_request q = rig_device("vblk-file", 1);
	char text[VBUSD_TEXT_LEN];

	CHECK(add("b", 1, "disk", 0, text) == VBUSD_SYSTEM && strstr(text, "absolute path"));
	CHECK(add("b", 1, in_dir("none"), 0, text) == VBUSD_SYSTEM &&
	      strstr(text, "No such file or directory"));
	CHECK(add("b", 1, dir, VBUSD_READ_ONLY, text) == VBUSD_SYSTEM &&
	      strstr(text, "neither a file nor a block device"));
	CHECK(!mkfifo(in_dir("fifo"), 0600));
	CHECK(add("b", 1, in_dir("fifo"), 0, text) == VBUSD_SYSTEM && strstr(text, "neither"));
	CHECK(make("empty", 100) && add("b", 1, in_dir("empty"), 0, text) == VBUSD_SYSTEM &&
	      strstr(text, "smaller than a block"));
	snprintf(q.argument, sizeof(q.argument), "%s", in_dir("disk"));
	q.block_size = 1000;
	CHECK(rig_ask(&rig, &q, text) == VBUSD_RANGE && strstr(text, "power of two"));
	q = rig_device("venet-loopback", 2);
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK);
	q.op = VBUSD_RESIZE;
	CHECK(rig_ask(&rig, &q, text) == VBUSD_UNKNOWN && strstr(text, "has no size"));
	return true;
}

static bool test_a_full_file_system_is_no_space_and_room_helps(void)
{
	char command[128];

	snprintf(command, sizeof(command), "mount -o remount,size=1m %s", dir);
	CHECK(!sh(command) && add("b", 1, in_dir("disk"), 0, NULL) == VBUSD_OK && drive());
	memset(north_disk_data(&disk, 0), 1, DISK_DATA);
	for (uint32_t at = 0; at < 1u << 20; at += DISK_DATA) {
		int status = north_disk_do(&disk, VBLK_OP_WRITE, 0, at / VBLK_SECTOR, DISK_DATA);

		CHECK(!status || (status == VBUS_STATUS_NO_SPACE && at));
	}
	CHECK(north_disk_do(&disk, VBLK_OP_WRITE, 0, 2048, DISK_DATA) == VBUS_STATUS_NO_SPACE);
	snprintf(command, sizeof(command), "mount -o remount,size=16m %s", dir);
	CHECK(!sh(command) && !north_disk_do(&disk, VBLK_OP_WRITE, 0, 2048, DISK_DATA));
	return true;
}

static bool test_zeroes_are_written_out_where_the_file_system_has_no_other_way(void)
{
	static const uint8_t none[DISK_DATA];

	CHECK(add("b", 1, in_dir("disk"), 0, NULL) == VBUSD_OK && drive());
	for (uint32_t at = 0; at < SIZE; at += DISK_DATA) {
		memset(north_disk_data(&disk, 0), 7, DISK_DATA);
		CHECK(!north_disk_do(&disk, VBLK_OP_WRITE, 0, at / VBLK_SECTOR, DISK_DATA));
	}
	CHECK(!north_disk_do(&disk, VBLK_OP_ZEROES, VBLK_FUA, 1, SIZE - 1024));
	CHECK(rig_count_logged(&rig, "zeroes are written out") == 1);
	for (uint32_t at = 0; at < SIZE; at += DISK_DATA) {
		uint32_t first = at ? 0 : 512;
		uint32_t last = at + DISK_DATA < SIZE ? DISK_DATA : DISK_DATA - 512;

		CHECK(!north_disk_do(&disk, VBLK_OP_READ, 0, at / VBLK_SECTOR, DISK_DATA));
		CHECK(!memcmp(north_disk_data(&disk, 0) + first, none, last - first));
		CHECK(!first || north_disk_data(&disk, 0)[511] == 7);
		CHECK(last == DISK_DATA || north_disk_data(&disk, 0)[last] == 7);
	}
	return true;
}

static bool attach(char *device, size_t size)
{
	char command[128];
	FILE *f;

	snprintf(command, sizeof(command), "losetup --find --show %s", in_dir("disk"));
	f = popen(command, "re");
	if (!f || !fgets(device, (int)size, f))
		device[0] = 0;
	device[strcspn(device, "\n")] = 0;
	return f && !pclose(f) && device[0];
}

static bool on_block_device(const char *device)
{
	static const uint8_t none[512];

	CHECK(add("b", 1, device, 0, NULL) == VBUSD_OK && drive());
	CHECK(disk.query.capacity == SIZE / VBLK_SECTOR && disk.query.logical_block == 512);
	memset(north_disk_data(&disk, 0), 9, DISK_DATA);
	CHECK(!north_disk_do(&disk, VBLK_OP_WRITE, VBLK_FUA, 0, DISK_DATA));
	CHECK(!north_disk_do(&disk, VBLK_OP_DISCARD, 0, 0, 4096));
	CHECK(!north_disk_do(&disk, VBLK_OP_ZEROES, 0, 16, 4096));
	CHECK(!north_disk_do(&disk, VBLK_OP_FLUSH, 0, 0, 0));
	CHECK(!north_disk_do(&disk, VBLK_OP_READ, 0, 0, DISK_DATA));
	CHECK(!memcmp(north_disk_data(&disk, 0), none, 512) &&
	      !memcmp(north_disk_data(&disk, 0) + 8192, none, 512) &&
	      north_disk_data(&disk, 0)[4096] == 9);
	return true;
}

static bool test_a_block_device_is_a_disk_too(void)
{
	char device[64], command[128];
	bool passed;

	if (!attach(device, sizeof(device))) {
		fprintf(stderr, "# no loop device to be had\n");
		return true;
	}
	passed = on_block_device(device);
	remove_disk(1);
	snprintf(command, sizeof(command), "losetup --detach %s", device);
	CHECK(RIG_UNTIL(!sh(command)) && passed);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_qemus_tools_are_refused_in_words_while_a_bus_has_the_image),
	TEST(test_readers_share_an_image_with_readers_and_with_no_writer),
	TEST(test_a_second_writer_is_refused_at_once_and_a_reader_too),
	TEST(test_what_qemu_has_is_refused_in_words),
	TEST(test_an_image_that_cannot_be_is_refused_in_words),
	TEST(test_a_full_file_system_is_no_space_and_room_helps),
	TEST(test_zeroes_are_written_out_where_the_file_system_has_no_other_way),
	TEST(test_a_block_device_is_a_disk_too),
};

int main(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		printf("1..0 # SKIP a mount namespace needs root: %s\n", strerror(errno));
		return 0;
	}
	return TAP_RUN(tests, setup, teardown);
}
