/* SPDX-License-Identifier: MIT */
/* shut_in.h - a child in a worker's sandbox, that tries one thing. */
#ifndef SHUT_IN_H
#define SHUT_IN_H

#include <netinet/in.h>
#include <sys/un.h>

#include "worker.h"

#define SHUT_IN_USER	4321u	/* an ordinary user, to whom nothing belongs */

enum shut_in {
	SHUT_IN = 0,
	NO_FILTER = 1,		/* all layers but the system calls */
	AS_USER = 2,		/* started by an ordinary user */
};

/* Made before the sandbox. */
struct shut_in_hand {
	int folder;		/* /etc; no worker is given this */
	int tcp, local;		/* sockets of the host's network, not connected; nor these */
	int bell, timer, epoll, memory, image, ring;
	int stream[2], messages[2], listener;
	uint8_t *window;
	pid_t other;
};

extern struct shut_in_hand have;
extern struct vbus_bus bus;
extern struct sockaddr_in loopback;
extern struct sockaddr_un abstract;	/* where listen_for_workers() listens */
extern socklen_t abstract_len;

void shut_in(enum shut_in how);

/* The status, as of waitpid(), of a child that is shut in and then does @act. */
int try_shut_in(int (*act)(void), enum shut_in how);

/* True, or false with a line that says what happened instead. */
bool exits_with(int status, int code);

/* A listener with one connection in its queue. */
bool listen_for_workers(void);

/* Whether these tests can be run; else a TAP line that says why not. */
bool can_shut_in(void);

/* The exit code is the number of the first that did not. */
#define WORKS(number, e) do { \
	if (!(e)) \
		return number; \
} while (0)

#endif /* SHUT_IN_H */
