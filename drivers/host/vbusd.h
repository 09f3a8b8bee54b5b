/* SPDX-License-Identifier: MIT */
/*
 * vbusd.h - the one privileged program: it holds descriptors, spawns workers, answers an
 * administrator.
 *
 * It never maps a window and never reads a byte that a guest wrote.  It may be killed at any time:
 * what was configured is in a record, the descriptors have a second holder, and the next vbusd takes
 * over.
 */
#ifndef VBUSD_H
#define VBUSD_H

#include <sys/types.h>

#include "classes/class_info.h"

#define VBUSD_CRASHES	5u	/* in a second: then respawning slows down */

/**
 * struct vbusd_device - a device of the configuration
 * @fd:   back end that is kept over the life of workers, or -1
 * @instance: another one each time a device is added
 * @lost: its back end is to be opened again
 * @mask: this device's; struct vbusd_bus has those of all
 */
struct vbusd_device {
	bool used;
	uint32_t instance;
	uint8_t uuid[VBUS_UUID_LEN];
	const struct vbus_class_info *klass;
	char argument[VBUSD_ARGUMENT_LEN];
	uint8_t mac[6];
	bool link;
	bool read_only;
	uint32_t mtu;
	uint32_t block_size;
	char serial[VBUSD_SERIAL_LEN];
	int fd;
	bool lost;
	struct vbus_mask mask[VBUSD_GROUPS];
};

/* What follows a worker's end.  For the last two it was killed, which a hung disk holds up. */
enum vbusd_after {
	VBUSD_AFTER_CRASH,	/* nobody asked for it: the next one serves the same session */
	VBUSD_AFTER_RELEASE,	/* it was asked to drain: nothing, the bus is held */
	VBUSD_AFTER_HANDOVER,	/* it was asked to make room: so does the next one */
	VBUSD_AFTER_SESSION,	/* the next one serves another session, or what is open by then */
	VBUSD_AFTER_BUS,	/* nothing: the bus goes */
};

/* Why a bus has no worker. */
enum vbusd_hold {
	VBUSD_HOLD_NONE,	/* it has one, or the next comes by itself */
	VBUSD_HOLD_NEW,		/* added so; any receipt of its ticket starts it */
	VBUSD_HOLD_RELEASED,	/* nobody got the receipt yet */
	VBUSD_HOLD_GIVEN,	/* somebody may have */
};

/**
 * struct vbusd_bus - one guest
 * Configuration, for as long as the bus exists:
 * @name, @path, @connector, @window_mib, @vectors, @device, @mask, @list_generation
 * @listener: QEMU's socket; it listens before QEMU starts; -1 while it cannot
 * @folder: of the file connector, locked; it has no listener
 *
 * One session, from one QEMU to the next:
 * @qemu:   its connection, or -1; a client of the file connector is a QEMU like any other
 * @alive:  the file connector's, until somebody is connected; from then on it is @qemu
 * @window, @from_guest, @to_guest: what both sides share; none when the system had none to give
 * @refused: a connection was refused meanwhile, which is logged once
 *
 * The worker:
 * @worker: pid, or 0 while there is none; @pidfd tells its end, @control reaches it
 * @after:  its end, and @handovers: how often one made room
 * @asker:  a copy of the connection of who waits for the end of the bus or a receipt, or -1
 * @died:   when the last ones died, in ms; @delay_ms: before the next is started
 * @respawn: timer; @waits: for a new session as well, and so do connections, in the listener's
 * queue
 * @fence:  timer: by then it must have acted upon message @fenced
 * @reopen: timer: back ends that were lost, and notices of the worker that wait, have their turn
 * @told:   number of the last message; @told_fence: of the last one that takes something away
 * @modules: of vbusd.module: those that it was started with, one bit each
 * @page:   what the worker tells of itself; never believed, only shown
 *
 * A move to another host, or from one:
 * @hold, @ticket; @generation: the epoch that the receipt names
 * @drained: the worker that is asked to release the bus says that it has
 *
 * @takeovers: workers that a former vbusd had started
 * @lost:      sessions that nobody had held
 */
struct vbusd_bus {
	bool used;
	char name[VBUSD_NAME_LEN];
	char path[VBUSD_ARGUMENT_LEN];
	enum vbusd_connector connector;
	uint32_t window_mib;
	uint32_t vectors;
	uint32_t list_generation;
	struct vbus_mask mask[VBUSD_GROUPS];
	struct vbusd_device device[VBUSD_DEVICES];
	int listener;
	int folder;

	int qemu;
	int alive;
	int window;
	int from_guest[VBUS_VECTORS_MAX];
	int to_guest[VBUS_VECTORS_MAX];
	uint32_t sessions;
	bool refused;

	pid_t worker;
	int pidfd;
	int control;
	int respawn;
	enum vbusd_after after;
	int asker;
	uint64_t died[VBUSD_CRASHES];
	uint32_t restarts;
	uint32_t delay_ms;
	bool waits;
	int fence;
	uint32_t told;
	uint32_t told_fence;
	uint32_t fenced;
	int reopen;
	uint32_t modules;
	uint32_t handovers;
	int page_fd;
	struct vbus_status_page *page;

	enum vbusd_hold hold;
	char ticket[VBUSD_TICKET_LEN + 1];
	uint64_t generation;
	bool drained;

	uint32_t takeovers;
	uint32_t lost;
};

/**
 * struct vbusd_module - a class that is not built in
 * @path: also of one that is left out: its place is its own, until it is added again
 * @fd: the very file that was described; what lies at @path may be another by now
 */
struct vbusd_module {
	bool used;
	char path[VBUSD_ARGUMENT_LEN];
	int fd;
	struct vbus_class_info info;
};

#define VBUSD_CLIENTS	8u
/* Never sent: vbusd_admin_answer() has the answer. */
#define VBUSD_LATER	((enum vbusd_result)254)

/**
 * struct vbusd - the program
 * @spare:  a descriptor to do without when there are no others; -1 while its place is taken
 * @told_full: that there are no others is in the log
 * @worker_first: user of the first bus's workers, one more each; 0: all have nobody's
 * @require_sandbox: a worker that lacks a layer does not serve
 * @control_user: may administrate, as root and vbusd's own user may
 * @told_stranger: that somebody else tried is in the log; @told_crowd: that all seats are taken
 * @state:  folder of the records and of the sockets where workers wait for the next vbusd
 * @ends:   the loop does; @clears: and nothing shall be left
 */
struct vbusd {
	int spare;
	bool told_full;
	int epoll;
	int admin;
	int signals;
	int client[VBUSD_CLIENTS];
	const char *worker_path;
	uid_t worker_first;
	bool require_sandbox;
	const char *state;
	uid_t qemu_user;
	uid_t control_user;
	bool told_stranger;
	bool told_crowd;
	bool ends;
	bool clears;
	struct vbusd_bus bus[VBUSD_BUSES];
	struct vbusd_module module[VBUSD_MODULES];
};

enum vbusd_event {
	VBUSD_EVENT_SIGNAL,
	VBUSD_EVENT_ADMIN,
	VBUSD_EVENT_CLIENT,
	VBUSD_EVENT_LISTENER,
	VBUSD_EVENT_QEMU,
	VBUSD_EVENT_WORKER_END,
	VBUSD_EVENT_RESPAWN,
	VBUSD_EVENT_FENCE,
	VBUSD_EVENT_NOTICE,
	VBUSD_EVENT_REOPEN,
};

extern struct vbusd vbusd;

/* vbusd_main.c */
int vbusd_watch(int fd, enum vbusd_event kind, uint32_t index);
/* Close what is watched; a plain close leaves the watch alive in a child that is about to exec. */
void vbusd_unwatch(int *fd);

/* vbusd_socket.c */
/* A connection, or -1; when vbusd.spare is -1 then, it can only be refused. */
int vbusd_accept(int listener);
void vbusd_refuse(int s);

/* vbusd_admin.c */
void vbusd_admin_accept(void);
void vbusd_admin_serve(uint32_t client);
/* Who waits for @bus is told, if anybody does and can be; @text NULL: about its end. */
bool vbusd_admin_answer(struct vbusd_bus *bus, enum vbusd_result result, const char *text);

/* vbusd_event.c */
void vbusd_event_watch(uint32_t client, bool on);
/* @uuid may be NULL: about the bus itself. */
void vbusd_event_tell(enum vbusd_event_kind kind, const char *bus, const uint8_t *uuid,
		      uint32_t group, uint32_t value, const char *text);

/* vbusd_hold.c: a ticket for a new bus that is held; requests as below, whose text is an answer. */
int vbusd_hold_new(struct vbusd_bus *bus, char *text);
enum vbusd_result vbusd_release(const struct vbusd_request *q, char *text);
enum vbusd_result vbusd_start(const struct vbusd_request *q, char *text);
/* Its configuration is another host's business, too. */
bool vbusd_hold_freezes(const struct vbusd_bus *bus);
/* Of a release that is under way: what the worker says, its end, and why there is no receipt. */
void vbusd_release_heard(struct vbusd_bus *bus, const struct vbus_worker_notice *n);
void vbusd_release_ended(struct vbusd_bus *bus);
void vbusd_release_fail(struct vbusd_bus *bus, const char *why);

/* vbusd_config.c: one request each, whose bus is there; the text is empty when all is well. */
enum vbusd_result vbusd_bus_add(const struct vbusd_request *q, char *text);
enum vbusd_result vbusd_bus_remove(const struct vbusd_request *q, char *text);
enum vbusd_result vbusd_device_add(const struct vbusd_request *q, char *text);
enum vbusd_result vbusd_device_remove(const struct vbusd_request *q, char *text);
enum vbusd_result vbusd_mask(const struct vbusd_request *q, char *text);
enum vbusd_result vbusd_link(const struct vbusd_request *q, char *text);
enum vbusd_result vbusd_renew(const struct vbusd_request *q, char *text);
enum vbusd_result vbusd_end(const struct vbusd_request *q, char *text);
enum vbusd_result vbusd_resize(const struct vbusd_request *q, char *text);
/* @result, with its reason in @text. */
enum vbusd_result __attribute__((format(printf, 3, 4)))
vbusd_deny(char *text, enum vbusd_result result, const char *fmt, ...);
struct vbusd_bus *vbusd_bus_find(const char *name);
void vbusd_bus_clear(struct vbusd_bus *bus);
/* QEMU's socket. */
int vbusd_bus_listen(struct vbusd_bus *bus, char *text);
/* All that a configured bus needs, new; or what it needs beside descriptors that there are. */
int vbusd_bus_open(struct vbusd_bus *bus, char *text);
int vbusd_bus_adopt(struct vbusd_bus *bus, char *text);
/* There is no worker any more, or it is somebody else's to wait for. */
void vbusd_bus_close(struct vbusd_bus *bus);
/* Forget that it was there; it is gone when its worker has ended. */
void vbusd_bus_end(struct vbusd_bus *bus);
void vbusd_bus_gone(struct vbusd_bus *bus);

/* vbusd_status.c */
bool vbusd_bus_status(uint32_t index, struct vbusd_bus_status *out);
bool vbusd_device_status(const struct vbusd_bus *bus, uint32_t index,
			 struct vbusd_device_status *out);

/* vbusd_backend.c: a descriptor, or -1; with @text it says why, else the log does. */
bool vbusd_backend_is_kept(const struct vbusd_device *dev);
int vbusd_backend_open(const struct vbusd_device *dev, char *text);
/* An image's lock is taken as well, so that who asked is told that somebody has it. */
int vbusd_backend_open_alone(const struct vbusd_device *dev, char *text);
/* Whether @fd is what is kept for @dev. */
bool vbusd_backend_is(const struct vbusd_device *dev, int fd);

/* vbusd_class.c: classes as modules. */
enum vbusd_result vbusd_class_add(const struct vbusd_request *q, char *text);
enum vbusd_result vbusd_class_remove(const struct vbusd_request *q, char *text);
bool vbusd_class_status(uint32_t index, struct vbusd_class_status *out);
/* Those that a former vbusd had; and that there were any, for those who end everything. */
void vbusd_class_restore(void);
void vbusd_class_forget(void);
/* The modules that the devices of @bus need, one bit each. */
uint32_t vbusd_class_needed(const struct vbusd_bus *bus);
/* In a child about to become a worker: these modules, and no other descriptor from there on. */
int vbusd_class_hand(uint32_t modules);

/* vbusd_stream.c: sockets, and what workers say of those that they lost. */
int vbusd_stream_open(const char *path, char *text);
void vbusd_stream_lost(struct vbusd_bus *bus, uint32_t slot);
void vbusd_stream_notice(struct vbusd_bus *bus);
void vbusd_stream_reopen(struct vbusd_bus *bus);

/* vbusd_image.c */
int vbusd_image_open(const struct vbusd_device *dev, char *text);
int vbusd_image_lock(const struct vbusd_device *dev, int fd, char *text);

/* vbusd_tap.c */
int vbusd_tap_open(const char *interface, char *text);
bool vbusd_tap_is(int fd, const char *interface);

/* vbusd_ivshmem.c: a session is a window, doorbells, and at most one QEMU. */
int vbusd_session_open(struct vbusd_bus *bus, char *text);
void vbusd_session_close(struct vbusd_bus *bus);
void vbusd_ivshmem_accept(struct vbusd_bus *bus);
void vbusd_ivshmem_readable(struct vbusd_bus *bus);

/* vbusd_file.c: the same for a folder; -1 with errno, or with one line of why in @text. */
int vbusd_file_open_folder(struct vbusd_bus *bus, char *text);
int vbusd_file_make(struct vbusd_bus *bus);
void vbusd_file_forget(struct vbusd_bus *bus);
void vbusd_file_readable(struct vbusd_bus *bus);

/* vbusd_spawn.c: fork() and exec() of a worker that holds @control and @meet; its pid, or -1. */
pid_t vbusd_spawn(const struct vbusd_bus *bus, int control, int meet);

/* vbusd_rights.c: rights that vbusd does not need are given up; 0, or -1 with errno. */
int vbusd_rights_drop(void);

/* vbusd_worker.c */
uint64_t vbusd_now_ms(void);
/* 0 ms: never. */
void vbusd_arm(const struct vbusd_bus *bus, int timer, uint32_t ms);
void vbusd_worker_start(struct vbusd_bus *bus);
/* Nobody waits for its end: vbusd_worker_ended() goes on as @after says. */
void vbusd_worker_kill(struct vbusd_bus *bus, enum vbusd_after after);
/* Whether it has is looked at for @ms. */
void vbusd_worker_ended(struct vbusd_bus *bus, int ms);
void vbusd_worker_respawn(struct vbusd_bus *bus);
void vbusd_worker_renew(struct vbusd_bus *bus);
/* It is told @kind, and @after comes when it has ended. */
void vbusd_worker_ask_for_end(struct vbusd_bus *bus, enum vbusd_after after,
			      enum vbus_worker_kind kind);
/* On purpose: this one stops, then it is killed, and the next is started with what is needed now. */
void vbusd_worker_handover(struct vbusd_bus *bus, const char *why);
void vbusd_worker_finished(struct vbusd_bus *bus);
/* @seen: per slot what a worker says it serves, or nothing; it is told what is different now. */
void vbusd_worker_reconcile(struct vbusd_bus *bus, const struct vbus_worker_message *seen);
void vbusd_worker_signal(const struct vbusd_bus *bus, int number);
void vbusd_worker_fence(struct vbusd_bus *bus);
/* @fd: a back end that is open already, or -1; it stays the caller's. */
void vbusd_worker_tell_device(struct vbusd_bus *bus, uint32_t slot, int fd);
void vbusd_worker_tell_backend(struct vbusd_bus *bus, uint32_t slot, int fd);
void vbusd_worker_tell(struct vbusd_bus *bus, enum vbus_worker_kind kind, uint32_t slot);

/* vbusd_takeover.c: every bus that a former vbusd left; later, whether records were left alone. */
void vbusd_takeover(void);
bool vbusd_takeover_left(void);

/* vbusd_store.c: systemd holds a descriptor too, when it started us. */
void vbusd_store_open(void);
void vbusd_store_ready(void);
void vbusd_store_session(struct vbusd_bus *bus);
void vbusd_store_device(struct vbusd_bus *bus, uint32_t slot);
void vbusd_store_forget_session(const struct vbusd_bus *bus);
void vbusd_store_forget_device(const struct vbusd_bus *bus, uint32_t slot);
/* What it handed back under a name: each once, then -1. */
int vbusd_store_take(const char *name);
/* Close what nobody took; what is of no bus and of no record is given up. */
void vbusd_store_close(void);

static inline uint32_t vbusd_bus_index(const struct vbusd_bus *bus)
{
	return (uint32_t)(bus - vbusd.bus);
}

#endif /* VBUSD_H */
