/* SPDX-License-Identifier: MIT */
/*
 * vbus_client.h - a north without a guest: a bus driver and a venet driver for host processes.
 *
 * Tests, fuzzers, benches and programs of the host use it to speak to vbusd as a guest would, over
 * the same core and the same window.  No threads, no exit, nothing printed; the caller brings the
 * memory, and serialises what it does with one client.  docs/client.md has an example.
 *
 * What the functions return, where nothing else is said:
 *	0		it is done
 *	above 0		the host's answer: enum vbus_status; VBUS_STATUS_STALE as well when the
 *			window tells of a new epoch: vbus_client_negotiate(), open, send again
 *	below 0		enum vbus_client_error
 */
#ifndef VBUS_CLIENT_H
#define VBUS_CLIENT_H

#include "ioq.h"
#include "shm_signal.h"
#include "venet_abi.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum vbus_client_error {
	VBUS_CLIENT_AGAIN = -1,		/* nothing there, or no room: wait, then try again */
	VBUS_CLIENT_INVALID = -2,	/* an argument is out of range */
	VBUS_CLIENT_SYSTEM = -3,	/* the operating system refused; errno says why */
	VBUS_CLIENT_REFUSED = -4,	/* vbusd serves somebody else there, or not this user */
	VBUS_CLIENT_SILENT = -5,	/* no answer in time */
	VBUS_CLIENT_ENDED = -6,		/* vbusd ended the session: close, connect again */
	VBUS_CLIENT_CORRUPT = -7,	/* the south broke the contract: close */
	VBUS_CLIENT_NO_SPACE = -8,	/* the pool is used up */
};

#define VBUS_CLIENT_PAGES	(VBUS_WINDOW_MAX / VBUS_PAGE_SIZE)
#define VBUS_CLIENT_TIMEOUT_MS	5000u

/**
 * struct vbus_client - one connection to a bus; to be read by anybody, to be written by the library
 * @link:   what ends with vbusd, and what vbusd sees end with us
 * @epoll:  readable when vbus_client_wait() has something to do
 * @drains: doorbells are FIFOs, which fill up; an eventfd is never read, only heard
 * @epoch, @nonce: of the last negotiate; 0 before the first
 * @queues: what negotiate registers; the caller may change it before
 * @timeout_ms: how long a call waits; the caller may change it
 * @rang:   queues whose doorbell was taken and that were not scanned to the end
 * @owner:  per signal: the handle of the device that it belongs to
 * @used:   a bit for each page of the window that is allocated
 * @signal: called from vbus_client_wait() for each signal that was enabled and sent; may be NULL,
 *          because a signal only says "look again"; @ctx is its first argument
 */
struct vbus_client {
	int link;
	int window;
	int epoll;
	bool drains;
	uint32_t vectors;
	int to_south[VBUS_VECTORS_MAX];
	int to_guest[VBUS_VECTORS_MAX];
	uint8_t *base;
	uint64_t size;

	uint64_t epoch;
	uint64_t nonce;
	struct vbus_qreg_request queues;
	uint32_t timeout_ms;
	uint32_t rang;
	struct shm_signal signals;
	uint32_t owner[VBUS_SIGNALS];
	uint8_t used[VBUS_CLIENT_PAGES / 8];

	shm_signal_fn *signal;
	void *ctx;
};

/* For callers that have no compiler at hand: bytes of the two structures. */
size_t vbus_client_size(void);
size_t vbus_client_net_size(void);

/* One line for what a function returned. */
const char *vbus_client_text(int code);

/* ---- Connection ---- */

/*
 * @path: of the socket that vbusd serves for QEMU, or of the folder of a bus with the connector
 * `file`.  Overwrites @c.  Waits at most VBUS_CLIENT_TIMEOUT_MS for the host's header.  After an
 * error there is nothing to close.  Of a folder AGAIN, and SYSTEM with ENOENT or ENXIO, may mean
 * that a session ended just now and the next one is not there yet.
 */
int vbus_client_connect(struct vbus_client *c, const char *path);
void vbus_client_close(struct vbus_client *c);

/* A descriptor to poll for reading, after vbus_client_wait(c, 0) has said AGAIN. */
int vbus_client_fd(const struct vbus_client *c);

/* As the window tells them now: not those of the last negotiate or vbus_client_devices(). */
uint64_t vbus_client_epoch(const struct vbus_client *c);
uint32_t vbus_client_generation(const struct vbus_client *c);

/*
 * Sleep for at most @ms (-1: for ever) until a doorbell rings, then scan what it tells of.
 * 0: something may have happened, look at all that is waited for; AGAIN: nothing has; or STALE,
 * ENDED, SYSTEM.
 */
int vbus_client_wait(struct vbus_client *c, int ms);

/* The first half of it: @rang gets a bit for each vector whose doorbell was taken. */
int vbus_client_take_bells(struct vbus_client *c, int ms, uint32_t *rang);

/* ---- Calls ---- */

/* A new connection to the south: nonce, echo, queues.  All handles, signals, pages are void. */
int vbus_client_negotiate(struct vbus_client *c);

/*
 * Any call.  @reply, when not NULL, gets a private copy; its len is judged to be at most
 * VBUS_CALL_DATA.  STALE comes from the host itself here: what is posted is posted as it is.
 */
int vbus_client_call_raw(struct vbus_client *c, uint32_t func, const void *in, uint32_t len,
			 struct vbus_call_reply *reply);

/* The same, with an answer of exactly @out_len bytes, else CORRUPT.  @out NULL: whatever. */
int vbus_client_call(struct vbus_client *c, uint32_t func, const void *in, uint32_t len, void *out,
		     uint32_t out_len);

/* The whole list, of one generation, at most @max entries; AGAIN when it moves all the time. */
int vbus_client_devices(struct vbus_client *c, struct vbus_device_entry *list, uint32_t max,
			uint32_t *count);

/* @uuid: VBUS_UUID_LEN bytes; @budget (may be NULL): bytes of the pool that the device may use. */
int vbus_client_dev_open(struct vbus_client *c, const uint8_t *uuid, uint32_t version,
			 uint32_t *handle, uint32_t *budget);
int vbus_client_dev_close(struct vbus_client *c, uint32_t handle);

/* A function of the device's type: as vbus_client_call(), at most VBUS_DEVCALL_DATA bytes @in. */
int vbus_client_dev_call(struct vbus_client *c, uint32_t handle, uint32_t func, const void *in,
			 uint32_t len, void *out, uint32_t out_len);

/* Pick @bits of a group of features; what is in force from now on comes back. */
int vbus_client_dev_features(struct vbus_client *c, uint32_t handle, uint32_t group, uint32_t bits,
			     uint32_t *active);

/* Share two parts of the pool; the region's signal is bound to q->queue, and disabled. */
int vbus_client_share(struct vbus_client *c, const struct vbus_devshm_request *q, uint32_t *signal);

/* ---- Signals ---- */

/* To the host, with a doorbell when it waits for one. */
void vbus_client_inject(struct vbus_client *c, uint32_t signal);
/* The doorbell alone; one that is full is as good as rung. */
void vbus_client_ring(struct vbus_client *c, uint32_t vector);
/* From the host.  True: it was sent already, no doorbell comes for that; wait will not sleep. */
bool vbus_client_enable(struct vbus_client *c, uint32_t signal);
void vbus_client_disable(struct vbus_client *c, uint32_t signal);

/* ---- Pool: whole pages, first fit ---- */

/* A window offset, or 0 when no @len bytes in one piece are free. */
uint64_t vbus_client_alloc(struct vbus_client *c, uint64_t len);
/* @len as it was allocated; what is not in the pool is left alone.  Free nothing that is shared. */
void vbus_client_free(struct vbus_client *c, uint64_t at, uint64_t len);
void vbus_client_free_all(struct vbus_client *c);

/* ---- venet ---- */

#define VBUS_CLIENT_RING	64u
/* The longest frame at the MTU that most have, and room for it. */
#define VBUS_CLIENT_FRAME	(VENET_MTU_DEFAULT + VENET_OVERHEAD)
#define VBUS_CLIENT_BUFFER	VENET_BUFFER_MIN
#define VBUS_CLIENT_HEADER	((uint32_t)sizeof(struct venet_header))

/**
 * struct vbus_client_net - an open Ethernet device, with one pair of rings
 * @nonce:  of the negotiate that @handle belongs to
 * @link_active, @config_active: features in force, bits of VENET_EVENTQ_* and VENET_CONFIG_*
 * @sg_active, @l4ro_active: of VENET_SG_*
 * @status: the host's, or NULL without VENET_EVENTQ_LINKSTATE
 * @tx_buffer, @rx_buffer: VBUS_CLIENT_RING of @tx_room and @rx_room bytes each, which are
 *          VBUS_CLIENT_BUFFER at the default MTU without offloads; buffer i belongs to id i
 * @tx_flying, @rx_flying: a bit for each id that the host holds
 * @tx_pushed, @rx_pushed: descriptors that are not published yet
 * @tx_errors: frames that the host gave back unsent
 */
struct vbus_client_net {
	struct vbus_client *client;
	uint64_t nonce;
	uint32_t handle;
	uint32_t budget;
	uint32_t link_active, config_active;
	uint32_t sg_active, l4ro_active;
	uint32_t mtu;
	struct ioq tx, rx;
	uint32_t tx_signal, rx_signal, status_signal;
	struct venet_status *status;
	uint64_t tx_parts[2], rx_parts[2], status_at;
	uint64_t tx_buffer, rx_buffer;
	uint32_t tx_room, rx_room;
	uint64_t tx_flying, rx_flying;
	uint32_t tx_pushed, rx_pushed;
	uint64_t tx_errors;
	uint8_t mac[6];
};

/* DEVOPEN to LINKUP.  Overwrites @net.  After an error it is closed. */
int vbus_client_net_open(struct vbus_client *c, struct vbus_client_net *net, const uint8_t *uuid);
/* The same, with what is wanted of VENET_SG_* for what is sent, and for what is received. */
int vbus_client_net_open_with(struct vbus_client *c, struct vbus_client_net *net,
			      const uint8_t *uuid, uint32_t sg, uint32_t l4ro);
/* Its pages go back to the pool when the host has let go of them.  NO_ENTRY: it had already. */
int vbus_client_net_close(struct vbus_client_net *net);

/*
 * One frame, 14 bytes to what @mtu allows, copied.  @more: another follows at once, so this one may
 * wait for it.  AGAIN: no room, and a doorbell will come when there is; without AGAIN
 * none is asked for.
 */
int vbus_client_net_send(struct vbus_client_net *net, const void *frame, uint32_t len, bool more);
/* The same with a header, of what is active; it goes as it is. */
int vbus_client_net_send_with(struct vbus_client_net *net, const struct venet_header *head,
			      const void *frame, uint32_t len, bool more);

/*
 * One frame, copied to @frame of at least VENET_FRAME_MAX bytes; VBUS_CLIENT_FRAME do at the
 * default MTU without offloads.  AGAIN: there is none, and a doorbell will come when there is;
 * without AGAIN none is asked for, so go on until then.
 */
int vbus_client_net_receive(struct vbus_client_net *net, void *frame, uint32_t *len);
/* The same, and its header. */
int vbus_client_net_receive_with(struct vbus_client_net *net, struct venet_header *head,
				 void *frame, uint32_t *len);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif /* VBUS_CLIENT_H */
