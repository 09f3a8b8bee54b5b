// SPDX-License-Identifier: MIT
/* image.c - see image.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"

/*
 * QEMU's block/file-posix.c: a byte for each permission that is used and for each that is not
 * shared, read-locked by who means it, and looked at with F_OFD_GETLK by everybody else.
 * A writer here takes both rows as well: QEMU 7.2's tools would read a raw image under it
 * otherwise.
 */
#define USES		100
#define KEEPS		200
#define ALL_BYTES	150	/* from USES on: both rows, and what QEMU may add to them */
#define PERM_READ	0	/* consistent read */
#define PERM_WRITE	1
#define PERM_RESIZE	3

static bool fits(uint32_t align, uint32_t block)
{
	return align && align <= block;
}

static int look_at_disk(int fd, struct vbus_image_shape *out)
{
	unsigned int physical = 0, optimal = 0;
	int logical = 0;

	if (ioctl(fd, BLKGETSIZE64, &out->size) < 0 || ioctl(fd, BLKSSZGET, &logical) < 0 ||
	    ioctl(fd, BLKPBSZGET, &physical) < 0 || ioctl(fd, BLKIOOPT, &optimal) < 0)
		return -1;
	out->logical = (uint32_t)logical;
	out->physical = physical;
	out->optimal = optimal;
	return 0;
}

int vbus_image_look(int fd, uint32_t block_size, struct vbus_image_shape *out)
{
	struct statx st;

	*out = (struct vbus_image_shape){ .logical = VBUS_BLOCK_MIN };
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_DIOALIGN, &st) < 0)
		return -1;
	out->size = st.stx_size;
	out->physical = st.stx_blksize < VBUS_BLOCK_MAX ? st.stx_blksize : VBUS_BLOCK_MAX;
	if (S_ISBLK(st.stx_mode) && look_at_disk(fd, out) < 0)
		return -1;
	if (block_size)
		out->logical = block_size;
	if (out->physical < out->logical)
		out->physical = out->logical;
	out->size -= out->size % out->logical;
	/* Who tells nothing may be able to; a refusal comes with the first read or write then. */
	out->direct = !(st.stx_mask & STATX_DIOALIGN) ||
		      (fits(st.stx_dio_offset_align, out->logical) &&
		       fits(st.stx_dio_mem_align, out->logical));
	return 0;
}

static int take(int fd, short type, off_t byte, off_t len)
{
	struct flock lock = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = len,
	};

	/* EACCES: as POSIX has it, too. */
	if (!fcntl(fd, F_OFD_SETLK, &lock))
		return 0;
	if (errno == EACCES)
		errno = EAGAIN;
	return -1;
}

/* Nobody else has locked @byte in any way. */
static bool is_free(int fd, off_t byte)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1,
	};

	return !fcntl(fd, F_OFD_GETLK, &lock) && lock.l_type == F_UNLCK;
}

int vbus_image_lock(int fd, bool read_only)
{
	if (!read_only)
		return take(fd, F_WRLCK, USES, ALL_BYTES);

	if (take(fd, F_RDLCK, USES + PERM_READ, 1) < 0 ||
	    take(fd, F_RDLCK, KEEPS + PERM_WRITE, 1) < 0 ||
	    take(fd, F_RDLCK, KEEPS + PERM_RESIZE, 1) < 0)
		return -1;
	/* Taken before looking, as QEMU does it: of two that come at once, one sees the other. */
	if (is_free(fd, USES + PERM_WRITE) && is_free(fd, USES + PERM_RESIZE) &&
	    is_free(fd, KEEPS + PERM_READ))
		return 0;
	take(fd, F_UNLCK, USES, ALL_BYTES);
	errno = EAGAIN;
	return -1;
}
