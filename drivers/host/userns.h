/* SPDX-License-Identifier: MIT */
/* userns.h - the one user that a new user namespace of an ordinary user names. */
#ifndef USERNS_H
#define USERNS_H

#include <sys/types.h>

/*
 * In a namespace that was just made: @uid and @gid, which made it, keep their numbers.
 * 0, or -1 with errno.
 */
int vbus_userns_name_self(uid_t uid, gid_t gid);

/* Write @text to @name in the folder @dir, whole; 0, or -1 with errno. */
int vbus_userns_write(int dir, const char *name, const char *text);

#endif /* USERNS_H */
