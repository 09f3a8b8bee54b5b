/* SPDX-License-Identifier: MIT */
/*
 * bench.h - one repetition of one measurement, against a vbusd that is there already.
 *
 * A measurement runs until its time is up, and what it has done by then is its result: nothing is
 * discarded as warm-up, and nothing is repeated here.  drivers/vbuskit/drivers/bench.py does that.
 */
#ifndef BENCH_H
#define BENCH_H

#include "vbus_client.h"

#define BENCH_SAMPLES	(1u << 20)
#define BENCH_WAIT_MS	5000

/**
 * struct bench - what is asked for, and what came of it
 * @size, @depth, @interface, @write, @random: as the command line has them
 * @uuid:    of the first device of the bus
 * @count:   round trips, frames or requests; @bytes: their payload, one way
 * @samples: nanoseconds of each, as far as there is room
 */
struct bench {
	struct vbus_client client;
	uint32_t ms;
	uint32_t size;
	uint32_t depth;
	const char *interface;
	bool write;
	bool random;
	uint8_t uuid[VBUS_UUID_LEN];

	uint64_t begin, end;
	uint64_t count;
	uint64_t bytes;
	uint32_t sampled;
	uint32_t samples[BENCH_SAMPLES];
};

/* One measurement: 0, or what the client library returned. */
typedef int bench_fn(struct bench *b);
bench_fn bench_calls, bench_signals, bench_packets, bench_disk, bench_tap_in, bench_tap_out;

/* bench_samples.c */
uint64_t bench_now(void);
void bench_start(struct bench *b);
/* False when the time is up. */
bool bench_goes_on(struct bench *b);
void bench_sample(struct bench *b, uint64_t since);
/* One line of JSON. */
void bench_print(struct bench *b);

/* Sleep until a doorbell; its absence for BENCH_WAIT_MS is SILENT, not a slow figure. */
int bench_wait(struct bench *b);

#endif /* BENCH_H */
