/* SPDX-License-Identifier: MIT */
/* store.h - systemd, as far as its descriptor store goes. */
#ifndef STORE_H
#define STORE_H

#include "rig.h"

/* Lose the vbusd of @r, and start it again as a service that has a store. */
bool store_start(struct rig *r);
/* Forget everything. */
void store_stop(void);
/* Take all that was said up to now; before the next one is started. */
void store_listen(void);
/* For rig_again(): in the child, what systemd does before it executes a service. */
void store_hand_back(void);
/* How many are stored under a name by now. */
unsigned int store_count(const char *name);
void store_put(int fd, const char *name);

#endif /* STORE_H */
