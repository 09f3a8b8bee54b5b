/* SPDX-License-Identifier: MIT */
/* control_rig.h - a real vbus-control as nobody, with its tree, over the vbusd of a rig. */
#ifndef CONTROL_RIG_H
#define CONTROL_RIG_H

#include <jansson.h>

#include "rig.h"

struct control_rig {
	struct rig *rig;
	const char *program;
	char socket[96];
	char state[96];
	char tree[96];
	pid_t pid;
};

/* For root: mounts of this process are its own from here on.  Before anything is started. */
bool control_rig_alone(void);
/* Both programs, over new folders. */
bool control_rig_start(struct control_rig *c, struct rig *r);
void control_rig_stop(struct control_rig *c);
/* By a signal, or by itself when @number is 0; how it ended, as waitpid() has it. */
int control_rig_lose(struct control_rig *c, int number);
/* Another one over the same folders; true when it answers. */
bool control_rig_again(struct control_rig *c);

/* One call; @params is taken.  The result, or NULL with @err: ENOTCONN when there was no answer. */
json_t *control_rig_ask(const struct control_rig *c, const char *method, json_t *params, int *err);
/* The same for who wants no result: 0 or an errno. */
int control_rig_do(const struct control_rig *c, const char *method, json_t *params);

/* A file of the tree; empty when it cannot be read. */
const char *control_rig_read(const struct control_rig *c, const char *file);
/* 0 or an errno. */
int control_rig_write(const struct control_rig *c, const char *file, const char *text);
/* Of its tree. */
uint32_t control_rig_mounts(const struct control_rig *c);

#endif /* CONTROL_RIG_H */
