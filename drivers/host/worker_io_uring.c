// SPDX-License-Identifier: MIT
/* worker_io_uring.c - the engine where the kernel has io_uring. */
#include <errno.h>
#include <liburing.h>

#include "worker_io.h"

#define ENTRIES		128u
#define COMPLETIONS	2048u	/* more than all devices of a bus can have in flight */

static struct io_uring ring;

/* Whatever happens to this process, its ring does nothing but these. */
static int restrict_to(void)
{
	static const uint8_t ops[] = {
		IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE,
	};
	struct io_uring_restriction allowed[sizeof(ops)] = { 0 };
	unsigned int i;

	for (i = 0; i < sizeof(ops); i++) {
		allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
		allowed[i].sqe_op = ops[i];
	}
	return io_uring_register_restrictions(&ring, allowed, sizeof(ops));
}

static int open_uring(int event)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
		.cq_entries = COMPLETIONS,
	};
	int rc = io_uring_queue_init_params(ENTRIES, &ring, &p);

	if (rc < 0)
		goto err;
	rc = io_uring_register_eventfd(&ring, event);
	if (!rc)
		rc = restrict_to();
	if (!rc)
		rc = io_uring_enable_rings(&ring);
	if (rc >= 0)
		return 0;
	io_uring_queue_exit(&ring);
err:
	errno = -rc;
	return -1;
}

static bool submit(void)
{
	return !io_uring_sq_ready(&ring) || io_uring_submit(&ring) >= 0;
}

static bool take(struct vbus_io *io)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (!sqe && submit())
		sqe = io_uring_get_sqe(&ring);
	if (!sqe)
		return false;
	switch (io->op) {
	case VBUS_IO_READ:
		io_uring_prep_readv(sqe, io->fd, io->iov, io->iovs, io->offset);
		break;
	case VBUS_IO_WRITE:
		io_uring_prep_writev(sqe, io->fd, io->iov, io->iovs, io->offset);
		break;
	case VBUS_IO_SYNC:
		io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
		break;
	case VBUS_IO_ALLOCATE:
		io_uring_prep_fallocate(sqe, io->fd, io->mode, (off_t)io->offset, (off_t)io->len);
		break;
	}
	io_uring_sqe_set_data(sqe, io);
	return true;
}

static struct vbus_io *reap(void)
{
	struct io_uring_cqe *cqe;
	struct vbus_io *io;

	if (io_uring_peek_cqe(&ring, &cqe))
		return NULL;
	io = io_uring_cqe_get_data(cqe);
	io->result = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	return io;
}

const struct vbus_io_engine vbus_io_uring = {
	.open = open_uring,
	.take = take,
	.submit = submit,
	.reap = reap,
};
