// SPDX-License-Identifier: GPL-2.0-only
/* vblk_limits.c - what the host says of its disk, judged before anything is done with it. */
#include <linux/ctype.h>
#include <linux/log2.h>
#include "vblk.h"

#define VBLK_PHYSICAL_MAX	SZ_1M
#define VBLK_IO_MAX		SZ_1G

bool vblk_capacity_is_sane(u64 capacity, u32 logical)
{
	return capacity <= LLONG_MAX / VBLK_SECTOR && !(capacity % (logical / VBLK_SECTOR));
}

static bool is_hint(u32 bytes, u32 logical)
{
	return bytes <= VBLK_IO_MAX && !(bytes % logical);
}

static const char *judge_blocks(const struct vblk_limits *l)
{
	if (!is_power_of_2(l->logical) || l->logical < VBLK_SECTOR || l->logical > VBUS_PAGE_SIZE)
		return "logical block";
	if (!is_power_of_2(l->physical) || l->physical < l->logical ||
	    l->physical > VBLK_PHYSICAL_MAX)
		return "physical block";
	if (!is_hint(l->io_min, l->logical) || !is_hint(l->io_opt, l->logical))
		return "preferred sizes of I/O";
	if (!vblk_capacity_is_sane(l->capacity, l->logical))
		return "capacity";
	return NULL;
}

/* In whole pages; who cannot take one page cannot be served. */
static const char *judge_sizes(struct vblk_limits *l, const struct vblk_query_reply *reply,
			       u32 commands)
{
	u32 segments = le32_to_cpu(reply->segments_max);

	l->run_pages = le32_to_cpu(reply->segment_max) / VBUS_PAGE_SIZE;
	l->request_pages = min3(segments, VBLK_SEGMENTS_MAX,
				le32_to_cpu(reply->bytes_max) / VBUS_PAGE_SIZE);
	if (!l->run_pages || !l->request_pages || segments > VBLK_SEGMENTS_MAX)
		return "size of a request";

	l->zeroes = round_down(le32_to_cpu(reply->zeroes_max), l->logical / VBLK_SECTOR);
	if ((commands & (VBLK_COMMANDS_DISCARD | VBLK_COMMANDS_ZEROES)) && !l->zeroes)
		return "size of a discard";
	return NULL;
}

static const char *judge_serial(struct vblk_limits *l, const struct vblk_query_reply *reply)
{
	size_t len = strnlen((const char *)reply->serial, VBLK_SERIAL_LEN);
	size_t i;

	for (i = 0; i < len; i++)
		if (!isascii(reply->serial[i]) || !isprint(reply->serial[i]))
			return "serial number";
	memcpy(l->serial, reply->serial, len);
	return NULL;
}

const char *vblk_limits_judge(struct vblk_limits *limits, const struct vblk_query_reply *reply,
			      u32 commands)
{
	u16 flags = le16_to_cpu(reply->flags);
	const char *wrong;

	*limits = (struct vblk_limits){
		.capacity = le64_to_cpu(reply->capacity),
		.logical = le32_to_cpu(reply->logical_block),
		.physical = le32_to_cpu(reply->physical_block),
		.io_min = le32_to_cpu(reply->io_min),
		.io_opt = le32_to_cpu(reply->io_opt),
		.queues = le16_to_cpu(reply->queues),
		.read_only = flags & VBLK_READ_ONLY,
	};
	if (flags & ~VBLK_READ_ONLY)
		return "flags";
	if (!limits->queues || limits->queues > VBLK_QUEUES_MAX)
		return "number of queues";
	wrong = judge_blocks(limits);
	if (!wrong)
		wrong = judge_sizes(limits, reply, commands);
	if (!wrong)
		wrong = judge_serial(limits, reply);
	return wrong;
}

/* Requests that were made for the disk as it was must be good for the disk as it is. */
const char *vblk_limits_narrowed(const struct vblk_limits *used, const struct vblk_limits *now)
{
	if (now->logical != used->logical)
		return "logical block";
	if (now->read_only != used->read_only)
		return "right to write";
	if (now->request_pages < used->request_pages || now->run_pages < used->run_pages)
		return "size of a request";
	if (now->zeroes < used->zeroes)
		return "size of a discard";
	if (now->queues < used->queues)
		return "number of queues";
	return NULL;
}
