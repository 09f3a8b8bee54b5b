/* SPDX-License-Identifier: MIT */
/*
 * vbusd_record.h - what vbusd knows of one bus, as a file that the next vbusd reads.
 *
 * Root's own word: what a worker or systemd hands back is compared with it.
 */
#ifndef VBUSD_RECORD_H
#define VBUSD_RECORD_H

#include "vbusd.h"

#define VBUSD_RECORD_MAGIC	0x6472636573756276ull	/* "vbusecrd" */
#define VBUSD_RECORD_VERSION	3u
#define VBUSD_RECORD_BEFORE	2u	/* it ends before @generation: no bus was held */
#define VBUSD_RECORD_TICKET	36u	/* with the NUL, and to a multiple of 4 */

/* The descriptors of a session; those of devices are known by their names. */
enum vbusd_held {
	VBUSD_HELD_WINDOW,
	VBUSD_HELD_PAGE,
	VBUSD_HELD_LISTENER,
	VBUSD_HELD_QEMU,
	VBUSD_HELD_FROM_GUEST,
	VBUSD_HELD_TO_GUEST = VBUSD_HELD_FROM_GUEST + VBUS_VECTORS_MAX,
	VBUSD_HELD_FDS = VBUSD_HELD_TO_GUEST + VBUS_VECTORS_MAX,
};

/* Where the bus has it. */
int *vbusd_held(struct vbusd_bus *bus, uint32_t index);

/* What a descriptor stands for; all zero: nothing.  @eventfd: they share one inode. */
struct vbusd_identity {
	uint64_t dev;
	uint64_t ino;
	uint64_t eventfd;
};

int vbusd_identify(int fd, struct vbusd_identity *out);
bool vbusd_is_identical(const struct vbusd_identity *a, const struct vbusd_identity *b);

struct vbusd_record_device {
	uint8_t used;
	uint8_t link;
	uint8_t read_only;
	uint8_t mac[6];
	char serial[VBUSD_SERIAL_LEN];
	uint8_t uuid[VBUS_UUID_LEN];
	char klass[VBUSD_CLASS_LEN];
	char argument[VBUSD_ARGUMENT_LEN];
	uint32_t instance;
	uint32_t mtu;
	uint32_t block_size;
	struct vbus_mask mask[VBUSD_GROUPS];
};

/**
 * struct vbusd_record
 * @checksum: of all the rest
 * @worker, @worker_start: pid, and its start in ticks since boot; 0 while there is none
 * @guest, @guest_start: QEMU's; pid 0 also when it is in another namespace
 * @held: as enum vbusd_held counts them
 * @hold: enum vbusd_hold; @ticket, @generation: of the move
 */
struct vbusd_record {
	uint64_t magic;
	uint64_t checksum;
	uint32_t version;
	uint32_t size;
	char name[VBUSD_NAME_LEN];
	char path[VBUSD_ARGUMENT_LEN];
	uint32_t window_mib;
	uint32_t vectors;
	uint32_t list_generation;
	uint32_t sessions;
	uint32_t restarts;
	uint32_t handovers;
	uint32_t modules;
	uint32_t connector;
	uint32_t slot;		/* of the bus: its worker's user goes by that */
	uint32_t takeovers;
	uint32_t lost;
	int32_t worker;
	int32_t guest;
	uint64_t worker_start;
	uint64_t guest_start;
	struct vbus_mask mask[VBUSD_GROUPS];
	struct vbusd_record_device device[VBUSD_DEVICES];
	struct vbusd_identity held[VBUSD_HELD_FDS];
	uint64_t generation;
	uint32_t hold;
	char ticket[VBUSD_RECORD_TICKET];
};

/* 0, or -1 with a line in the log: what is not recorded does not outlive this vbusd. */
int vbusd_record_write(struct vbusd_bus *bus);
/* 0, or -1 with why in @text: then the file is left as it is. */
int vbusd_record_read(const char *file, struct vbusd_record *out, char *text);
/* Make the bus what the record says, but for its descriptors. */
void vbusd_record_apply(const struct vbusd_record *r, struct vbusd_bus *bus);
/* Whether there is a record of that name: of a bus that is here, or of one that is left alone. */
bool vbusd_record_exists(const char *name);
/* The record and the socket where a worker would wait. */
void vbusd_record_remove(const struct vbusd_bus *bus);

/* Of a file in the folder of the records; PATH_MAX bytes. */
void vbusd_state_path(const char *name, const char *tail, char *path);

/* In ticks since boot; 0 when there is no such process. */
uint64_t vbusd_start_of(pid_t pid);
/* It runs no code of its own any more, if it is there, and ends as soon as its I/O does. */
bool vbusd_is_dying(pid_t pid);

#endif /* VBUSD_RECORD_H */
