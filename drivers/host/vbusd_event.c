// SPDX-License-Identifier: MIT
/* vbusd_event.c - what changes is told to who watches; nobody is waited for. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "log.h"
#include "vbusd.h"

static bool watches[VBUSD_CLIENTS];

void vbusd_event_watch(uint32_t client, bool on)
{
	watches[client] = on;
}

static void drop(uint32_t client)
{
	vbus_log(NULL, "a watcher is dropped (it does not read: %s)", strerror(errno));
	watches[client] = false;
	vbusd_unwatch(&vbusd.client[client]);
}

void vbusd_event_tell(enum vbusd_event_kind kind, const char *bus, const uint8_t *uuid,
		      uint32_t group, uint32_t value, const char *text)
{
	struct vbusd_event_message m = {
		.version = VBUSD_VERSION,
		.result = VBUSD_EVENT,
		.kind = kind,
		.group = group,
		.value = value,
	};
	uint32_t i;

	if (uuid)
		memcpy(m.uuid, uuid, sizeof(m.uuid));
	snprintf(m.bus, sizeof(m.bus), "%s", bus);
	snprintf(m.text, sizeof(m.text), "%s", text);
	for (i = 0; i < VBUSD_CLIENTS; i++)
		if (watches[i] &&
		    send(vbusd.client[i], &m, sizeof(m), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			drop(i);
}
