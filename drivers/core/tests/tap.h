/* SPDX-License-Identifier: MIT */
/* tap.h - TAP on stdout: a table of functions whose names are sentences. */
#ifndef TAP_H
#define TAP_H

#include <stdbool.h>
#include <stdio.h>

struct tap_test {
	const char *name;
	bool (*fn)(void);
};

#define TEST(fn) { #fn, fn }

/* False from the test that asked for it, with the place on stderr. */
#define CHECK(e) do { \
	if (!(e)) { \
		fprintf(stderr, "# %s:%d: %s\n", __func__, __LINE__, #e); \
		return false; \
	} \
} while (0)

static inline int tap_run(const struct tap_test *tests, unsigned int n, void (*setup)(void),
			  void (*teardown)(void))
{
	unsigned int failed = 0, i;
	bool ok;

	printf("1..%u\n", n);
	for (i = 0; i < n; i++) {
		if (setup)
			setup();
		ok = tests[i].fn();
		if (teardown)
			teardown();
		printf("%sok %u - %s\n", ok ? "" : "not ", i + 1, tests[i].name);
		fflush(stdout);
		failed += !ok;
	}
	return failed != 0;
}

#define TAP_RUN(tests, setup, teardown) \
	tap_run(tests, sizeof(tests) / sizeof((tests)[0]), setup, teardown)

#endif /* TAP_H */
