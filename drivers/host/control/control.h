/* SPDX-License-Identifier: MIT */
/*
 * control.h - vbus-control: vbusd for people and programs, as a tree of files and as JSON.
 *
 * It holds nothing that matters: what is, vbusd knows; what was named, and what is not connected
 * yet, lies in a file.  One thread, one loop; a JSON object is what a folder of the tree, an answer
 * and the metrics are made of.
 *
 * Functions that can fail return 0 or a negative errno, and have said why by control_refuse().
 */
#ifndef VBUS_CONTROL_H
#define VBUS_CONTROL_H

#include <jansson.h>

#include "classes/class_info.h"

/**
 * struct control - the program
 * @vbusd:   path of its socket; @sockets: folder of those that QEMU connects to
 * @state:   folder of the file of @shells
 * @owner:   whose the tree and the socket are
 * @shells:  devices that were named here: each an object of strings, its attributes
 * @in_parts: what is kept is not written yet: more of the same request follows
 * @changes: counts what may have changed something
 * @error:   why the last thing was refused
 */
struct control {
	int epoll;
	const char *vbusd;
	const char *sockets;
	int state;
	uid_t owner;
	json_t *shells;
	bool in_parts;
	uint32_t changes;
	char error[2 * VBUSD_TEXT_LEN];
};

#define CONTROL_WINDOW_MIB	16	/* of a bus, unless told otherwise */

extern struct control control;

enum control_event {
	CONTROL_SIGNAL,
	CONTROL_NEWS,		/* vbusd tells, or ends */
	CONTROL_RETRY,		/* timer: is vbusd back? */
	CONTROL_TREE,
	CONTROL_LISTENER,
	CONTROL_CLIENT,
};

/* control_main.c */
int control_watch(int fd, enum control_event kind, uint32_t index);
int control_refuse(int error, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *control_code(int error);

/* control_vbusd.c: the connection; without one everything is -ENOTCONN at once. */
int control_vbusd_set_up(void);
/* Takes all that vbusd has told; false while it does not tell. */
bool control_vbusd_news(void);
void control_vbusd_retry(void);
int control_ask(struct vbusd_request *q);
/* -ENOENT past the last, which is not worth a line in the log. */
int control_ask_bus(uint32_t index, struct vbusd_bus_status *out);
int control_ask_device(const char *bus, uint32_t index, struct vbusd_device_status *out);
/* The classes that are modules of vbusd; a name that is not known yet is looked for there. */
void control_learn_classes(void);
const struct vbus_class_info *control_class_find(const char *name);

/* control_shell.c */
enum {
	CONTROL_FOR_NET = 1,
	CONTROL_FOR_DISK = 2,
	CONTROL_FOR_TAP = 4,
	CONTROL_FOR_PATH = 8,
	CONTROL_LIVE = 16,	/* can be written while connected */
};
struct control_attribute {
	const char *name;
	unsigned int for_what;
	bool (*is_ok)(const char *text);
	const char *wants;
};
const struct control_attribute *control_attribute(const char *key);
/* Whether devices of a class have this attribute; NULL: whether any has. */
bool control_device_has(const struct vbus_class_info *klass, const char *key);
/* Empty when it has none. */
const char *control_shell_text(const json_t *shell, const char *key);
uint32_t control_shell_masked(const json_t *shell, uint32_t group);
int control_shells_load(void);
/* Instead of those that are; takes the reference. */
int control_shells_keep(json_t *shells);

/* control_device.c: devices by name, which is a shell's or else a UUID. */
struct control_device {
	uint8_t uuid[VBUS_UUID_LEN];
	json_t *shell;		/* borrowed; NULL when somebody else added the device */
	const struct vbus_class_info *klass;	/* NULL: none yet */
	char bus[VBUSD_NAME_LEN];	/* empty: not connected; then there is no @status */
	struct vbusd_device_status status;
};
int control_device_find(const char *name, struct control_device *out);
/* The shell of this UUID, or else the UUID. */
const char *control_device_name(const uint8_t *uuid, char *room);
int control_device_make(const char *name);
int control_device_forget(const char *name);
int control_device_set(const char *name, const char *key, const char *text);
int control_device_connect(const char *bus, const char *name);
int control_device_disconnect(const char *bus, const char *name);

/* control_words.c: what people write, judged. */
#define CONTROL_UUID_TEXT	37u
bool control_number(const char *text, uint32_t *out);
bool control_name(const char *text);
bool control_uuid(const char *text, uint8_t *out);
const char *control_uuid_text(const uint8_t *uuid, char *room);
bool control_mac(const char *text, uint8_t *out);
bool control_mask(const char *text, uint32_t *group, uint32_t *bits);

/* control_model.c */
struct control_counter {
	const char *name;
	size_t offset;
	size_t size;
};
extern const struct control_counter control_bus_counters[], control_queue_counters[],
	control_device_counters[];
/*
 * What is, by name: an object is a folder, null a link to the device of its name, an array lines.
 * NULL with *@err when vbusd does not answer.
 */
json_t *control_classes(void);
json_t *control_devices(int *err);
json_t *control_buses(int *err);
int control_bus_name(struct vbusd_request *q, const char *name);
/* @socket: or a folder; NULL: made from the name. */
int control_bus_add(const char *name, enum vbusd_connector connector, uint32_t window_mib,
		    uint32_t vectors, const char *socket);
int control_bus_remove(const char *name);

/* control_tree.c, control_mount.c */
int control_tree_open(const char *mountpoint, bool as_root, bool allow_other);
void control_tree_serve(void);
void control_tree_close(void);
/* A descriptor of /dev/fuse; a guard that keeps root unmounts when this process has ended. */
int control_mount(const char *mountpoint, bool allow_other);
void control_unmount(void);
int control_unmount_stale(const char *mountpoint, bool as_root);

/* control_client.c: the JSON socket. */
int control_client_listen(const char *path);
void control_client_accept(void);
void control_client_serve(uint32_t index);
/* To every client that watches; takes the reference. */
void control_client_tell(json_t *event);

/* control_method.c: a result, or NULL with a negative errno in *@err; @params may be NULL. */
json_t *control_method(const char *name, json_t *params, int *err);

/* control_metrics.c: text, to be freed. */
char *control_metrics(size_t *len);

#endif /* VBUS_CONTROL_H */
