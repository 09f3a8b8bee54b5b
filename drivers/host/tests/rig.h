/* SPDX-License-Identifier: MIT */
/* rig.h - a real vbusd with real workers, an administrator, and connections like QEMU's. */
#ifndef RIG_H
#define RIG_H

#include <sys/types.h>

#include "vbusd_abi.h"

#define RIG_LEAK	200	/* a descriptor that vbusd inherits, and nobody else shall */
#define RIG_DEADLINE_MS	20000	/* nothing may take longer; it takes milliseconds */

#define RIG_WORDS	4u

struct rig {
	char *words[RIG_WORDS];	/* of vbusd's command line, beside the socket */
	char dir[64];
	char admin_path[108];
	char qemu_path[108];	/* a folder, with the file connector */
	uint32_t connector;	/* by the word in VBUS_CONNECTOR */
	char log_path[108];
	const char *program;	/* vbusd */
	pid_t vbusd;
	int admin;
};

/* With the worker that RIG_WORKER names, when it names one. */
bool rig_start(struct rig *r);
/* The same, with more words on its command line; NULL ends them, and there are at most four. */
bool rig_start_with(struct rig *r, char *const *words);
/* Ends vbusd and all that it serves. */
void rig_stop(struct rig *r);
/* By SIGKILL or SIGTERM, which leave all that it serves to the next one; returns when it is gone. */
void rig_lose(struct rig *r, int number);
/* Another one in the same folder; @before, if any, is called in the child just before the exec. */
bool rig_again(struct rig *r, void (*before)(void));

/* Another connection of the administrator. */
bool rig_reach(struct rig *r);

/* Bytes of the answer at @a, at most @len; -1 when there is none. */
long rig_tell(struct rig *r, const struct vbusd_request *q, void *a, size_t len);

/* The result; the text goes to @text when it is not NULL (VBUSD_TEXT_LEN bytes). */
enum vbusd_result rig_ask(struct rig *r, const struct vbusd_request *q, char *text);
bool rig_bus_status(struct rig *r, uint32_t index, struct vbusd_bus_status *out);
bool rig_device_status(struct rig *r, const char *bus, uint32_t index,
		       struct vbusd_device_status *out);

/* Requests about the bus "b", filled in; the uuid is @number everywhere. */
struct vbusd_request rig_request(enum vbusd_op op);
struct vbusd_request rig_device(const char *klass, uint8_t number);
bool rig_add_bus(struct rig *r);

/* Text that vbusd or a worker has logged, within the deadline. */
bool rig_logged(struct rig *r, const char *text);
/* How often it has logged @text up to now. */
uint32_t rig_count_logged(struct rig *r, const char *text);

/* Just the connection: QEMU's side before it has read anything; -1 when there is none. */
int rig_dial(struct rig *r);

/* Random moments that a program is killed at: 20, or what VBUS_KILLS says. */
uint32_t rig_kills(void);

/* Of a process: its descriptors, and the number behind @key in its status, or -1. */
uint32_t rig_descriptors(pid_t pid);
long rig_proc_number(pid_t pid, const char *key);
/* As proc(5) has it: T is stopped, Z ended, X (here) reaped as well; 0 is not known. */
char rig_state(pid_t pid);
/* It has ended, reaped or not. */
bool rig_is_gone(pid_t pid);
/* Ticks of processor time that a process took; 100 a second. */
long rig_ticks(pid_t pid);

uint64_t rig_now_ms(void);

/* Ask again and again, a little apart, until it holds or the deadline has passed. */
#define RIG_UNTIL(e) __extension__ ({ \
	uint64_t end_ = rig_now_ms() + RIG_DEADLINE_MS; \
	bool held_; \
	while (!(held_ = (e)) && rig_now_ms() < end_) \
		rig_pause(); \
	held_; \
})
void rig_pause(void);

#endif /* RIG_H */
