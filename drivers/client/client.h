/* SPDX-License-Identifier: MIT */
/* client.h - what the library's own files share. */
#ifndef CLIENT_H
#define CLIENT_H

#include "vbus_client.h"

/* How often to look without a doorbell, where a fuzzer or a loaded image may have silenced it. */
#define VBUS_CLIENT_LOOK_MS	100

uint64_t vbus_client_now_ms(void);

/* Window, doorbells and link; what was opened stays with @c after an error, too. */
int vbus_client_find_ivshmem(struct vbus_client *c, const char *path);
int vbus_client_find_files(struct vbus_client *c, const char *path);

/* Signals and pages as after no call at all. */
void vbus_client_reset(struct vbus_client *c);

#endif /* CLIENT_H */
