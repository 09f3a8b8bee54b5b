// SPDX-License-Identifier: MIT
/* bench_main.c - the command line, the connection, one measurement. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static const struct {
	const char *name;
	bench_fn *run;
} measures[] = {
	{ "calls", bench_calls },
	{ "signals", bench_signals },
	{ "packets", bench_packets },
	{ "tap-in", bench_tap_in },
	{ "tap-out", bench_tap_out },
	{ "disk", bench_disk },
};

static int usage(void)
{
	fprintf(stderr,
		"usage: vbus-bench MEASURE PATH [--ms N] [--size BYTES] [--depth N] [--write]\n"
		"       [--random] [--interface NAME]\n"
		"MEASURE is calls, signals, packets, tap-in, tap-out or disk; it is taken once,\n"
		"on the first device of the bus at PATH.  `vbuskit bench host` does more.\n");
	return 2;
}

static bench_fn *find(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(measures) / sizeof(measures[0]); i++)
		if (!strcmp(measures[i].name, name))
			return measures[i].run;
	return NULL;
}

/* The repetition before this one has just left; vbusd may not have looked yet. */
static int connect_to(struct bench *b, const char *path)
{
	uint64_t end = bench_now() + BENCH_WAIT_MS * 1000000ull;
	int rc;

	while ((rc = vbus_client_connect(&b->client, path)) == VBUS_CLIENT_REFUSED &&
	       bench_now() < end)
		poll(NULL, 0, 1);
	return rc;
}

static int find_device(struct bench *b)
{
	struct vbus_device_entry entry;
	uint32_t count;
	int rc = vbus_client_negotiate(&b->client);

	if (!rc)
		rc = vbus_client_devices(&b->client, &entry, 1, &count);
	if (rc)
		return rc;
	if (!count)
		return VBUS_STATUS_NO_ENTRY;
	memcpy(b->uuid, entry.uuid, sizeof(b->uuid));
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ms", required_argument, NULL, 'm' },
		{ "size", required_argument, NULL, 's' },
		{ "depth", required_argument, NULL, 'd' },
		{ "interface", required_argument, NULL, 'i' },
		{ "write", no_argument, NULL, 'w' },
		{ "random", no_argument, NULL, 'r' },
		{ 0 },
	};
	static struct bench b = { .ms = 1000, .size = 4096, .depth = 1, .interface = "" };
	bench_fn *run;
	int c, rc;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'm':
			b.ms = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 's':
			b.size = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'd':
			b.depth = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'i':
			b.interface = optarg;
			break;
		case 'w':
			b.write = true;
			break;
		case 'r':
			b.random = true;
			break;
		default:
			return usage();
		}
	}
	run = argc - optind == 2 ? find(argv[optind]) : NULL;
	if (!run)
		return usage();
	rc = connect_to(&b, argv[optind + 1]);
	if (!rc) {
		rc = find_device(&b);
		if (!rc)
			rc = run(&b);
		vbus_client_close(&b.client);
	}
	if (rc) {
		fprintf(stderr, "%s: %s: %s%s%s\n", argv[optind], argv[optind + 1],
			vbus_client_text(rc), rc == VBUS_CLIENT_SYSTEM ? ": " : "",
			rc == VBUS_CLIENT_SYSTEM ? strerror(errno) : "");
		return 1;
	}
	bench_print(&b);
	return 0;
}
