// SPDX-License-Identifier: MIT
/* bench_samples.c - time, and what is printed. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench.h"

uint64_t bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void bench_start(struct bench *b)
{
	b->begin = bench_now();
}

bool bench_goes_on(struct bench *b)
{
	b->end = bench_now();
	return b->end - b->begin < b->ms * 1000000ull;
}

void bench_sample(struct bench *b, uint64_t since)
{
	uint64_t took = bench_now() - since;

	b->count++;
	if (b->sampled < BENCH_SAMPLES)
		b->samples[b->sampled++] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
}

static int compare(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

/* In microseconds; 0 when there are no samples. */
static double quantile(const struct bench *b, uint32_t percent)
{
	return b->sampled ? b->samples[(uint64_t)(b->sampled - 1) * percent / 100] / 1000.0 : 0;
}

void bench_print(struct bench *b)
{
	qsort(b->samples, b->sampled, sizeof(b->samples[0]), compare);
	printf("{\"count\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"seconds\": %.6f, "
	       "\"p50_us\": %.3f, \"p99_us\": %.3f}\n", b->count, b->bytes,
	       (double)(b->end - b->begin) / 1e9, quantile(b, 50), quantile(b, 99));
}

int bench_wait(struct bench *b)
{
	int rc = vbus_client_wait(&b->client, BENCH_WAIT_MS);

	return rc == VBUS_CLIENT_AGAIN ? VBUS_CLIENT_SILENT : rc;
}
