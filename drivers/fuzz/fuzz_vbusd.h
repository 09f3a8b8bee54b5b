/* SPDX-License-Identifier: MIT */
/* fuzz_vbusd.h - a vbusd without its loop; who talks to it gets no further than to its messages. */
#ifndef VBUS_FUZZ_VBUSD_H
#define VBUS_FUZZ_VBUSD_H

#include "vbusd.h"

void vbusd_begin(void);
/* All that was configured goes, and all clients. */
void vbusd_finish(void);

/* fuzz_admin.c: the next message of a client, and of a worker; its length, 0 at the end, or -1. */
long fuzz_request(struct vbusd_request *out);
long fuzz_notice(struct vbus_worker_notice *out);

#endif /* VBUS_FUZZ_VBUSD_H */
