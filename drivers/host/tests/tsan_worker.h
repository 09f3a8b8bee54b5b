/* SPDX-License-Identifier: MIT */
/* tsan_worker.h - see tsan_worker.c. */
#ifndef TSAN_WORKER_H
#define TSAN_WORKER_H

#include <sys/types.h>

/* vbus-worker's main(): VBUS_WORKER_FD is its socket; does not return. */
int tsan_worker(int argc, char **argv);

#endif /* TSAN_WORKER_H */
