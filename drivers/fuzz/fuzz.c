// SPDX-License-Identifier: MIT
/* fuzz.c - see fuzz.h. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static const uint8_t *at, *end;

void fuzz_begin(const uint8_t *data, size_t len)
{
	at = data;
	end = data + len;
}

bool fuzz_has_more(void)
{
	return at < end;
}

uint8_t fuzz_byte(void)
{
	return at < end ? *at++ : 0;
}

void fuzz_bytes(void *to, size_t len)
{
	uint8_t *byte = to;

	while (len--)
		*byte++ = fuzz_byte();
}

uint32_t fuzz_number(void)
{
	uint32_t first = fuzz_byte(), wide = 0;

	switch (first) {
	case 0xf8:
		return UINT32_MAX;
	case 0xf9:
		return INT32_MAX;
	case 0xfa:
		return 1u << fuzz_byte() % 32;
	case 0xfb:
		return (1u << fuzz_byte() % 32) - 1;
	case 0xfc:
	case 0xfd:
		fuzz_bytes(&wide, 2);
		return wide;
	case 0xfe:
	case 0xff:
		fuzz_bytes(&wide, 4);
		return wide;
	default:
		return first;
	}
}

_Noreturn void fuzz_found(const char *what)
{
	fprintf(stderr, "found: %s\n", what);
	abort();
}

/* Memory that was given back is kept apart for an input's time, not for the cache's. */
const char *__asan_default_options(void)
{
	return "quarantine_size_mb=4";
}

static void write_seed(const char *folder, const struct fuzz_seed *seed)
{
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, seed->name);
	f = fopen(path, "we");
	if (!f || fwrite(seed->bytes, 1, seed->len, f) != seed->len || fclose(f)) {
		fprintf(stderr, "%s: cannot be written\n", path);
		exit(2);
	}
}

/* With VBUS_FUZZ_SEEDS=FOLDER in its environment a target writes down what to begin with. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *folder = getenv("VBUS_FUZZ_SEEDS");
	const struct fuzz_seed *seed;

	(void)argc;
	(void)argv;
	for (seed = fuzz_seeds; folder && seed->name; seed++)
		write_seed(folder, seed);
	return 0;
}
