/* SPDX-License-Identifier: MIT */
/*
 * worker_io.h - reads and writes of images, beside the loop.
 *
 * One io_uring a worker, made before the sandbox and restricted to the four operations below; where
 * the kernel gives none, four threads do the same.
 */
#ifndef VBUS_WORKER_IO_H
#define VBUS_WORKER_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct vbus_bus;

enum vbus_io_op {
	VBUS_IO_READ,
	VBUS_IO_WRITE,
	VBUS_IO_SYNC,		/* fdatasync */
	VBUS_IO_ALLOCATE,	/* fallocate */
};

/**
 * struct vbus_io - one operation, the caller's memory from start to @done
 * @mode:  of fallocate
 * @iov:   moves forward while parts are done
 * @done:  in the loop; @error is 0 when all is done, else a negative errno; may start again
 * @next, @result: the engine's
 */
struct vbus_io {
	enum vbus_io_op op;
	int fd;
	int mode;
	uint64_t offset;
	uint64_t len;
	struct iovec *iov;
	uint32_t iovs;
	void (*done)(struct vbus_io *io, int error);
	struct vbus_io *next;
	int result;
};

/* Before the sandbox.  -1 and errno when there is not even an eventfd. */
int vbus_io_open(struct vbus_bus *bus);

/* From the loop only.  Nothing moves before the next vbus_io_submit(). */
void vbus_io_start(struct vbus_io *io);

/* Once a round.  True: the kernel takes no more now, come back without sleeping. */
bool vbus_io_submit(void);

/* Nothing that was started has still to end. */
bool vbus_io_is_idle(void);

/* The eventfd is readable: call @done for what has ended. */
void vbus_io_reap(void);

/**
 * struct vbus_io_engine - who does it
 * @open:   @event is written for each end; -1 and errno
 * @take:   false: no room now
 * @submit: all that was taken; false: again later
 * @reap:   one that has ended, its @result a number of bytes or a negative errno, or NULL
 */
struct vbus_io_engine {
	int (*open)(int event);
	bool (*take)(struct vbus_io *io);
	bool (*submit)(void);
	struct vbus_io *(*reap)(void);
};

extern const struct vbus_io_engine vbus_io_uring;
extern const struct vbus_io_engine vbus_io_pool;

#endif /* VBUS_WORKER_IO_H */
