/* SPDX-License-Identifier: MIT */
/* log.h - one line each to stderr: `vbusd: bus NAME: what (why)`. */
#ifndef VBUS_LOG_H
#define VBUS_LOG_H

/* @bus may be NULL: the line is about the program. */
void vbus_log(const char *bus, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif /* VBUS_LOG_H */
