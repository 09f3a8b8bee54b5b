// SPDX-License-Identifier: MIT
/*
 * disk - a guest's driver as a filter: what comes in is written to a disk, flushed and read back, and
 * what was read goes out.
 */
#include <stdio.h>
#include <string.h>

#include "north_disk.h"

#define DISK	1u	/* number of the device's UUID */

static struct vbus_client north;
static struct north_disk disk;

static bool open_disk(const char *socket)
{
	struct rig rig = { 0 };

	strncpy(rig.qemu_path, socket, sizeof(rig.qemu_path) - 1);
	return north_open(&north, &rig, 8) && north_negotiate(&north) &&
	       north_disk_open(&north, &disk, DISK, DISK_ALL);
}

static bool does(enum vblk_op op, uint64_t at, size_t len)
{
	return north_disk_do(&disk, op, 0, at / VBLK_SECTOR, (uint32_t)len) == VBUS_STATUS_OK;
}

/* Bytes that came in; what is no whole sector at the end is left out. */
static bool write_all(uint64_t *size)
{
	size_t len;

	for (*size = 0;; *size += len) {
		len = fread(north_disk_data(&disk, 0), VBLK_SECTOR, DISK_DATA / VBLK_SECTOR, stdin);
		if (!len)
			return !ferror(stdin);
		len *= VBLK_SECTOR;
		if (!does(VBLK_OP_WRITE, *size, len))
			return false;
	}
}

static bool read_all(uint64_t size)
{
	uint64_t at;
	size_t len;

	for (at = 0; at < size; at += len) {
		len = size - at < DISK_DATA ? (size_t)(size - at) : DISK_DATA;
		memset(north_disk_data(&disk, 0), 0, len);
		if (!does(VBLK_OP_READ, at, len) ||
		    fwrite(north_disk_data(&disk, 0), 1, len, stdout) != len)
			return false;
	}
	return !fflush(stdout);
}

int main(int argc, char **argv)
{
	uint64_t size;

	if (argc != 2) {
		fprintf(stderr, "usage: disk SOCKET <DATA >BACK\n");
		return 2;
	}
	if (!open_disk(argv[1])) {
		fprintf(stderr, "disk: %s has no disk for us\n", argv[1]);
		return 1;
	}
	if (!write_all(&size) || !does(VBLK_OP_FLUSH, 0, 0) || !read_all(size)) {
		fprintf(stderr, "disk: a request failed\n");
		return 1;
	}
	north_close(&north);
	return 0;
}
