/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h - an input is a program: bytes that are read one after another, and 0 behind the last.
 *
 * Whatever a target links runs on a clock, on random numbers and on descriptors of its own
 * (fuzz_system.c), so that an input does the same each time.
 */
#ifndef VBUS_FUZZ_H
#define VBUS_FUZZ_H

#include "vbus_types.h"

/* A program to begin with; a target ends its list with an empty one. */
struct fuzz_seed {
	const char *name;
	uint8_t bytes[512];
	size_t len;
};
extern const struct fuzz_seed fuzz_seeds[];

#define FUZZ_SEED(name_, ...) { \
	.name = name_, \
	.bytes = { __VA_ARGS__ }, \
	.len = sizeof((const uint8_t[]){ __VA_ARGS__ }), \
}

void fuzz_begin(const uint8_t *data, size_t len);
bool fuzz_has_more(void);
uint8_t fuzz_byte(void);
void fuzz_bytes(void *to, size_t len);
/* Mostly small; 0xf8 to 0xff begin what is on a border, or has 16 or 32 bits of its own. */
uint32_t fuzz_number(void);

/* fuzz_system.c: at the end no descriptor is open. */
void fuzz_system_begin(void);
void fuzz_system_end(void);
/* A number that the sources under test have to close; -1 when it is this call's turn to fail. */
int fuzz_open(void);
/* The last of so many calls of the system fails, of those that may. */
void fuzz_fail_after(uint32_t calls);
bool fuzz_fails(void);
/* The clock moves with each look as well. */
void fuzz_clock_forward(uint32_t ms);

/* A finding that no sanitizer makes. */
_Noreturn void fuzz_found(const char *what);

/* Called by libFuzzer, and by ASan. */
const char *__asan_default_options(void);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#endif /* VBUS_FUZZ_H */
