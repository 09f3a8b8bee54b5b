/* SPDX-License-Identifier: MIT */
/* listen.h - listening UNIX sockets that only one user can reach, and who that is. */
#ifndef VBUS_LISTEN_H
#define VBUS_LISTEN_H

#include <sys/types.h>

#define VBUS_LISTEN_TEXT	160u

/* Who can rename what lies in the folder of @path is trusted; or -1 with one line of why in @text. */
int vbus_judge_folder(const char *path, char *text);

/* A socket of mode 0600, or -1 with one line of why in @text. */
int vbus_listen(const char *path, int type, uid_t owner, char *text);

/* By name or by number; -1 when there is none.  @gid may be NULL. */
int vbus_user_find(const char *word, uid_t *uid, gid_t *gid);

#endif /* VBUS_LISTEN_H */
