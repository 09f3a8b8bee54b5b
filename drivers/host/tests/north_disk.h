/* SPDX-License-Identifier: MIT */
/* north_disk.h - a guest's vblk driver, without a guest. */
#ifndef NORTH_DISK_H
#define NORTH_DISK_H

#include "north.h"
#include "vblk_abi.h"

#define DISK_SLOTS	16u
#define DISK_DATA	(32u << 10)	/* bytes a slot */

/**
 * struct north_disk
 * @ring, @signal: of each queue; @queues in use
 * @request, @data: window offsets: a page and DISK_DATA bytes for each slot
 * @posted: slots that are in flight
 */
struct north_disk {
	struct vbus_client *north;
	uint32_t handle;
	uint32_t commands, config;
	struct vblk_query_reply query;
	uint32_t queues;
	struct ioq ring[VBLK_QUEUES_MAX];
	uint32_t signal[VBLK_QUEUES_MAX];
	struct vblk_status *status;
	uint32_t status_signal;
	uint64_t request, data;
	uint32_t posted;
};

/* What is asked for; DISK_ALL is everything with one ring. */
struct disk_wish {
	uint32_t commands;
	uint32_t config;
	uint32_t queues;
};
#define DISK_ALL	((struct disk_wish){ ~0u, ~0u, 1 })

/* DEVOPEN alone; the status, or -1. */
int north_disk_devopen(struct vbus_client *n, struct north_disk *d, uint8_t number);
/* DEVOPEN to the rings; the uuid is @number everywhere. */
bool north_disk_open(struct vbus_client *n, struct north_disk *d, uint8_t number, struct disk_wish wish);

uint8_t *north_disk_data(struct north_disk *d, uint32_t slot);
/* The request of a slot as the guest wrote it, to spoil it. */
struct vblk_request *north_disk_request(struct north_disk *d, uint32_t slot);

/* Write a request of one segment into its slot; hand it over, with a descriptor of @len bytes. */
void north_disk_prepare(struct north_disk *d, uint32_t slot, enum vblk_op op, uint8_t flags,
			uint64_t sector, uint32_t bytes);
void north_disk_push(struct north_disk *d, uint32_t ring, uint64_t addr, uint32_t len, uint32_t id);
void north_disk_post(struct north_disk *d, uint32_t ring, uint32_t slot);

/* The next completion of a ring: 1, 0 when there is none now, -1 when the ring lies. */
int north_disk_pop(struct north_disk *d, uint32_t ring, struct ioq_buffer *done);
/* The same, by doorbell and within the deadline. */
bool north_disk_await(struct north_disk *d, uint32_t ring, struct ioq_buffer *done);

/* One request on slot 0 and ring 0, from prepare to await: its status, or -1. */
int north_disk_do(struct north_disk *d, enum vblk_op op, uint8_t flags, uint64_t sector,
		  uint32_t bytes);

#endif /* NORTH_DISK_H */
