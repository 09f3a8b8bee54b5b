// SPDX-License-Identifier: MIT
/*
 * control_vbusd.c - vbusd's client: one connection for requests, one for what it tells.
 *
 * Requests connect when they have to, so that they work as soon as vbusd is back; the timer is only
 * for the other connection, and runs only while vbusd is away.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "control.h"
#include "fail_point.h"
#include "log.h"

#define ANSWER_SECONDS	10
#define RETRY_FIRST_MS	100u
#define RETRY_LAST_MS	5000u

static int requests = -1, news = -1, retry = -1;
static uint32_t delay_ms = RETRY_FIRST_MS;
static bool told_away, is_told;

static void arm(uint32_t ms)
{
	struct itimerspec when = {
		.it_value = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 },
	};

	if (timerfd_settime(retry, 0, &when, NULL) < 0)
		vbus_log(NULL, "vbusd is not looked for (%s)", strerror(errno));
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int away(const char *why)
{
	close_fd(&requests);
	snprintf(control.error, sizeof(control.error), "vbusd does not answer (%s: %s)",
		 control.vbusd, why);
	if (!told_away)
		vbus_log(NULL, "%s", control.error);
	told_away = true;
	return -ENOTCONN;
}

static int reach(void)
{
	const struct timeval patience = { .tv_sec = ANSWER_SECONDS };
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", control.vbusd);
	if (s >= 0 && !setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) &&
	    !setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) &&
	    !connect(s, (struct sockaddr *)&at, sizeof(at)))
		return s;
	close_fd(&s);
	return -1;
}

static bool send_request(const struct vbusd_request *q)
{
	return requests >= 0 && send(requests, q, sizeof(*q), MSG_NOSIGNAL) == sizeof(*q);
}

/* A payload of @size bytes, or none; what vbusd says against it is in control.error. */
static int exchange(struct vbusd_request *q, void *payload, size_t size)
{
	static const int errors[] = {
		[VBUSD_MALFORMED] = EINVAL, [VBUSD_NO_ENTRY] = ENOENT, [VBUSD_EXISTS] = EEXIST,
		[VBUSD_RANGE] = ERANGE, [VBUSD_UNKNOWN] = EOPNOTSUPP, [VBUSD_FULL] = ENOSPC,
		[VBUSD_SYSTEM] = EIO, [VBUSD_BUSY] = EBUSY,
	};
	char raw[sizeof(struct vbusd_reply) + sizeof(struct vbusd_bus_status) + 1];
	struct vbusd_reply head;
	ssize_t len;

	q->version = VBUSD_VERSION;
	if (!send_request(q)) {
		/* What was sent to one that is gone was not done: the next one may be there. */
		close_fd(&requests);
		requests = reach();
		if (!send_request(q))
			return away(strerror(errno));
		if (news < 0)
			arm(1);
	}
	if (!size)
		VBUS_FAIL_POINT(VBUSD_ASKED);
	len = recv(requests, raw, sizeof(raw), 0);
	if (len <= 0)
		return away(len ? strerror(errno) : "it has ended");
	memcpy(&head, raw, sizeof(head));
	if ((size_t)len < sizeof(head) || head.version != VBUSD_VERSION ||
	    (head.result == VBUSD_OK && (size_t)len != sizeof(head) + size))
		return away("it is of another version");
	if (told_away)
		vbus_log(NULL, "vbusd answers again");
	told_away = false;
	if (head.result == VBUSD_OK) {
		memcpy(payload, raw + sizeof(head), size);
		return 0;
	}
	snprintf(control.error, sizeof(control.error), "%.*s", (int)sizeof(head.text), head.text);
	if (head.result >= sizeof(errors) / sizeof(errors[0]) || !errors[head.result])
		return -EIO;
	return -errors[head.result];
}

int control_ask(struct vbusd_request *q)
{
	char none;
	int err = exchange(q, &none, 0);

	control.changes++;
	if (err && err != -ENOTCONN)
		vbus_log(NULL, "vbusd refuses: %s", control.error);
	return err;
}

int control_ask_bus(uint32_t index, struct vbusd_bus_status *out)
{
	struct vbusd_request q = { .op = VBUSD_BUS_STATUS, .index = index };

	return exchange(&q, out, sizeof(*out));
}

int control_ask_device(const char *bus, uint32_t index, struct vbusd_device_status *out)
{
	struct vbusd_request q = { .op = VBUSD_DEVICE_STATUS, .index = index };

	snprintf(q.bus, sizeof(q.bus), "%s", bus);
	return exchange(&q, out, sizeof(*out));
}

void control_learn_classes(void)
{
	static struct vbus_class_info module[VBUSD_MODULES];
	static uint32_t count;
	struct vbusd_request q = { .op = VBUSD_CLASS_STATUS };
	struct vbusd_class_status s;

	while (count)
		vbus_class_remove(&module[--count]);
	for (; count < VBUSD_MODULES && !exchange(&q, &s, sizeof(s)); q.index++) {
		if (!s.path[0])
			continue;	/* built in */
		module[count] = (struct vbus_class_info){
			.version = s.version, .backend = s.backend,
		};
		memcpy(module[count].name, s.name, sizeof(s.name) - 1);
		memcpy(module[count].type, s.type, sizeof(s.type) - 1);
		memcpy(module[count].feature, s.feature, sizeof(s.feature));
		vbus_class_add(&module[count++]);
	}
}

const struct vbus_class_info *control_class_find(const char *name)
{
	const struct vbus_class_info *klass = vbus_class_find(name);

	if (klass || !name[0])
		return klass;
	control_learn_classes();
	return vbus_class_find(name);
}

int control_vbusd_set_up(void)
{
	retry = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (retry < 0 || control_watch(retry, CONTROL_RETRY, 0) < 0)
		return -1;
	arm(1);
	return 0;
}

void control_vbusd_retry(void)
{
	struct vbusd_request q = { .version = VBUSD_VERSION, .op = VBUSD_WATCH };
	uint64_t times;

	if (read(retry, &times, sizeof(times)) < 0 || news >= 0)
		return;
	news = reach();
	if (news >= 0 && send(news, &q, sizeof(q), MSG_NOSIGNAL) == sizeof(q) &&
	    !control_watch(news, CONTROL_NEWS, 0)) {
		delay_ms = RETRY_FIRST_MS;
		return;
	}
	away(strerror(errno));
	close_fd(&news);
	arm(delay_ms);
	delay_ms = delay_ms * 2 < RETRY_LAST_MS ? delay_ms * 2 : RETRY_LAST_MS;
}

static json_t *event_json(const struct vbusd_event_message *m)
{
	static const char *const names[] = {
		[VBUSD_BUS_ADDED] = "bus.added",	[VBUSD_BUS_REMOVED] = "bus.removed",
		[VBUSD_DEVICE_ADDED] = "device.added",	[VBUSD_DEVICE_REMOVED] = "device.removed",
		[VBUSD_MASK_CHANGED] = "mask.changed",	[VBUSD_LINK_CHANGED] = "link.changed",
		[VBUSD_QEMU_CONNECTED] = "qemu.connected", [VBUSD_QEMU_GONE] = "qemu.gone",
		[VBUSD_WORKER_STARTED] = "worker.started", [VBUSD_WORKER_DIED] = "worker.died",
		[VBUSD_BUS_HELD] = "bus.held",		[VBUSD_BUS_STARTED] = "bus.started",
	};
	static const uint8_t none[VBUS_UUID_LEN];
	bool known = m->kind < sizeof(names) / sizeof(names[0]) && names[m->kind];
	char uuid[CONTROL_UUID_TEXT], name[CONTROL_UUID_TEXT];
	json_t *event = json_pack("{s:s, s:s#, s:I, s:I, s:s#}", "event",
				  known ? names[m->kind] : "unknown", "bus", m->bus,
				  (int)strnlen(m->bus, sizeof(m->bus)), "group",
				  (json_int_t)m->group, "value", (json_int_t)m->value, "text",
				  m->text, (int)strnlen(m->text, sizeof(m->text)));

	if (memcmp(m->uuid, none, sizeof(none))) {
		json_object_set_new(event, "uuid", json_string(control_uuid_text(m->uuid, uuid)));
		json_object_set_new(event, "device",
				    json_string(control_device_name(m->uuid, name)));
	}
	return event;
}

/* The reply to WATCH comes first and is shorter than an event. */
bool control_vbusd_news(void)
{
	struct vbusd_event_message m;
	ssize_t len;

	if (news < 0)
		return false;
	while ((len = recv(news, &m, sizeof(m), MSG_DONTWAIT)) > 0) {
		is_told = true;
		control.changes++;
		control_client_tell(len == sizeof(m) && m.result == VBUSD_EVENT ?
				    event_json(&m) : json_pack("{s:s}", "event", "vbusd.answers"));
	}
	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return is_told;
	is_told = false;
	away("it has ended");
	close_fd(&news);
	control_client_tell(json_pack("{s:s}", "event", "vbusd.gone"));
	arm(delay_ms);
	return false;
}
