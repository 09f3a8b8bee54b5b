// SPDX-License-Identifier: MIT
/* log.c - see log.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

void vbus_log(const char *bus, const char *fmt, ...)
{
	char line[512];
	int used, more;
	va_list args;
	char *c;

	if (bus)
		used = snprintf(line, sizeof(line), "%s: bus %s: ", program_invocation_short_name,
				bus);
	else
		used = snprintf(line, sizeof(line), "%s: ", program_invocation_short_name);
	if (used < 0 || (size_t)used >= sizeof(line) - 1)
		return;

	va_start(args, fmt);
	more = vsnprintf(line + used, sizeof(line) - 1 - (size_t)used, fmt, args);
	va_end(args);
	if (more < 0)
		return;

	/*
	 * Whoever named something does not get to move a terminal's cursor, or to begin a new line.
	 */
	for (c = line; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';

	/* One write a line, so that lines of several programs do not mix. */
	used = (int)strlen(line);
	line[used] = '\n';
	if (write(STDERR_FILENO, line, (size_t)used + 1) < 0)
		return;		/* nobody is left to tell */
}
