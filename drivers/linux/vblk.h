/* SPDX-License-Identifier: GPL-2.0-only */
/* vblk.h - what vblk's files share. */
#ifndef VBLK_H
#define VBLK_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/interrupt.h>
#include <linux/mutex.h>
#include <linux/workqueue.h>
#include "ioq.h"
#include "vblk_abi.h"
#include "vbus.h"

#define VBLK_DEPTH	64u	/* requests a ring; a host has about as many in flight for a disk */
#define VBLK_TIMEOUT	(5 * HZ)	/* until the bus asks whether the host is there */
#define VBLK_DRAIN	(10 * HZ)	/* for requests to complete before the guest sleeps */
#define VBLK_PATIENCE	6u		/* timeouts, when nobody can ask it any more */

/**
 * struct vblk_limits - the disk as the host describes it, judged
 * @logical, @physical, @io_min, @io_opt: bytes
 * @request_pages: the most that a request may have
 * @run_pages: the most that one of its segments may have
 * @zeroes:  sectors of a discard or a write of zeroes
 * @serial:  printable
 */
struct vblk_limits {
	u64 capacity;
	u32 logical;
	u32 physical;
	u32 io_min;
	u32 io_opt;
	u32 request_pages;
	u32 run_pages;
	u32 zeroes;
	u32 queues;
	bool read_only;
	char serial[VBLK_SERIAL_LEN + 1];
};

/* vblk_limits.c: NULL, or what cannot be; @commands are the features in force. */
const char *vblk_limits_judge(struct vblk_limits *limits, const struct vblk_query_reply *reply,
			      u32 commands);
const char *vblk_limits_narrowed(const struct vblk_limits *used, const struct vblk_limits *now);
bool vblk_capacity_is_sane(u64 capacity, u32 logical);

/* Pages of the pool that lie side by side. */
struct vblk_run {
	u16 page;
	u16 pages;
};

/**
 * struct vblk_command - our part of a block layer's request
 * @op, @flags: as vblk_abi.h has them
 * @overdue: timeouts while the device was being removed
 * @run:    its pages in the window, @runs of them; never looked up in the window again
 * @status: how it ended
 */
struct vblk_command {
	u8 op;
	u8 flags;
	u8 overdue;
	struct vblk_run run[VBLK_SEGMENTS_MAX];
	u32 runs;
	blk_status_t status;
};

/**
 * struct vblk_pool - the pages that carry data
 *
 * Each page carries data of one request only, since a page under a read is the host's.  Pages are
 * taken as runs, first fit; a request is allowed at most VBLK_SEGMENTS_MAX pages, so that any free
 * pages will do, however scattered: there is nothing to compact, and no request that would wait for
 * a hole of its size.
 *
 * @memory, @at, @pages, @run_pages: set once
 * Under @lock: @free (a bit a page), @left of them, @wanted by who waits first, or 0.
 */
struct vblk_pool {
	u8 *memory;
	u64 at;
	u32 pages;
	u32 run_pages;
	spinlock_t lock;
	unsigned long *free;
	u32 left;
	u32 wanted;
};

/* vblk_pool.c */
int vblk_pool_alloc(struct vblk_pool *pool, struct vbus_device *vdev, u32 pages);
void vblk_pool_free(struct vblk_pool *pool, struct vbus_device *vdev);
/* All pages are ours again. */
void vblk_pool_reset(struct vblk_pool *pool);
/* False: @hctx is stopped until enough pages are given back. */
bool vblk_pool_take(struct vblk_pool *pool, u32 pages, struct vblk_command *command,
		    struct blk_mq_hw_ctx *hctx);
/* True: there is enough for who waits; start what was stopped. */
bool vblk_pool_give(struct vblk_pool *pool, struct vblk_command *command);
/* The one copy, between the request's own pages and its runs. */
void vblk_pool_copy(struct vblk_pool *pool, struct request *rq, bool to_window);

/**
 * struct vblk_ring - a hardware queue
 * @requests: a block a tag, on pages that the host never writes
 * @reap:     takes back what the host has completed
 * Under @lock: @q, @posted.
 * @posted:   per tag, the request that the host has; stays until a completion is believed
 */
struct vblk_ring {
	struct vblk *vblk;
	struct vbus_region region;
	void *north;
	void *south;
	u8 *requests;
	u64 requests_at;
	struct tasklet_struct reap;
	spinlock_t lock;
	struct ioq q;
	struct request *posted[VBLK_DEPTH];
};

/* vblk_ring.c */
int vblk_ring_alloc(struct vblk_ring *ring, struct vblk *vblk, u32 number);
void vblk_ring_free(struct vblk_ring *ring);
u32 vblk_ring_pages(u32 depth);
/* Empty, known to the host. */
int vblk_ring_share(struct vblk_ring *ring);
/* Begin to serve; what an earlier connection has not completed is handed over first. */
void vblk_ring_start(struct vblk_ring *ring);
void vblk_ring_post(struct vblk_ring *ring, struct request *rq, bool publish);
void vblk_ring_publish(struct vblk_ring *ring);
/* No signal comes and nothing is reaped when this returns. */
void vblk_ring_halt(struct vblk_ring *ring);
/* Everything that the host has ends in an error, and keeps its pages.  Halted. */
void vblk_ring_abandon(struct vblk_ring *ring);

/**
 * struct vblk - one disk
 * @commands, @config: features in force since the first open; a replay must give them again
 * @limits:   what was announced to the block layer; the capacity is the host's last word
 * @depth:    tags a ring
 * @status:   the host's page, or NULL without RESIZE
 * @appear:   adds the disk, which reads its partitions, and needs a bus that can recover
 * @resize:   looks at @status
 * @doubt:    being removed, and the host does not complete: is it there at all?
 * @removing: no recovery will come any more
 * @hopeless: a request was overdue VBLK_PATIENCE times; the host does not serve this removal
 * @added:    by @appear
 *
 * Under the device's lock, and under @mutex once @removing is set:
 * @halted:   no region is shared
 * @failed:   requests end in an error at once; the queues run
 */
struct vblk {
	struct vbus_device *vdev;
	struct gendisk *disk;
	struct blk_mq_tag_set tags;
	struct vblk_limits limits;
	struct vblk_pool pool;
	struct vblk_ring *ring;
	u32 rings;
	u32 depth;
	u32 commands;
	u32 config;
	struct vbus_region status_region;
	const struct vblk_status *status;
	struct work_struct appear;
	struct delayed_work resize;
	struct work_struct doubt;
	bool removing;
	bool hopeless;
	bool added;
	struct mutex mutex;
	bool halted;
	bool failed;
};

/* vblk.c */
void vblk_status_signal(void *data);

/* vblk_memory.c: none of it is allocated later */
int vblk_alloc(struct vblk *vblk);
void vblk_free(struct vblk *vblk);

/* vblk_queue.c */
extern const struct blk_mq_ops vblk_queue_ops;
void vblk_request_end(struct request *rq, blk_status_t status);

/* vblk_disk.c: all that differs between kernels */
int vblk_disk_register(void);
void vblk_disk_unregister(void);
int vblk_disk_alloc(struct vblk *vblk);
void vblk_disk_free(struct vblk *vblk);
int vblk_disk_add(struct vblk *vblk);
void vblk_disk_remove(struct vblk *vblk);
/* True: no request is anywhere, and none gets in until it is refilled. */
bool vblk_disk_drain(struct vblk *vblk, unsigned long patience);
void vblk_disk_refill(struct vblk *vblk);
void vblk_disk_mark_dead(struct vblk *vblk);
void vblk_disk_set_capacity(struct vblk *vblk, u64 capacity);

#endif /* VBLK_H */
