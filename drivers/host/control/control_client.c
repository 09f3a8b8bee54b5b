// SPDX-License-Identifier: MIT
/*
 * control_client.c - the socket: a JSON object a line and its answer, or GET and the metrics.
 *
 * Who has not read its last answer is not heard.  Only events can pile up, and only so far.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "listen.h"
#include "log.h"

#define CLIENTS		32u
#define LINE_MAX_BYTES	(64u << 10)
#define WAITING_MAX	(256u << 10)	/* an answer may be longer, when nothing else waits */

static struct client {
	bool used;
	int fd;
	char *in;
	size_t got;
	char *out;
	size_t waiting;
	bool watches;
	bool ends;		/* as soon as it has its answer */
} clients[CLIENTS];
static int listener, spare;

static void drop(struct client *c, const char *why)
{
	if (why)
		vbus_log(NULL, "a client is dropped (%s)", why);
	close(c->fd);
	free(c->in);
	free(c->out);
	memset(c, 0, sizeof(*c));
}

/* Hear it, or wait until it reads. */
static void listen_for(const struct client *c, uint32_t what)
{
	struct epoll_event e = {
		.events = what,
		.data.u64 = (uint64_t)CONTROL_CLIENT << 32 | (uint32_t)(c - clients),
	};

	epoll_ctl(control.epoll, EPOLL_CTL_MOD, c->fd, &e);
}

static void flush(struct client *c)
{
	ssize_t done = send(c->fd, c->out, c->waiting, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (done < 0 && errno != EAGAIN && errno != EINTR) {
		drop(c, NULL);
		return;
	}
	if (done > 0) {
		c->waiting -= (size_t)done;
		memmove(c->out, c->out + done, c->waiting);
	}
	if (!c->waiting) {
		free(c->out);
		c->out = NULL;
	}
	if (!c->waiting && c->ends)
		drop(c, NULL);
	else
		listen_for(c, c->waiting ? EPOLLOUT : EPOLLIN);
}

static void say(struct client *c, const char *text, size_t len)
{
	char *more;

	if (!c->used)
		return;
	if (c->waiting && c->waiting + len > WAITING_MAX) {
		drop(c, "it does not read");
		return;
	}
	more = realloc(c->out, c->waiting + len);
	if (!more) {
		drop(c, "no memory");
		return;
	}
	c->out = more;
	memcpy(c->out + c->waiting, text, len);
	c->waiting += len;
	flush(c);
}

static void say_json(struct client *c, json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;

	if (text) {
		text[len] = '\n';
		say(c, text, len + 1);
	}
	free(text);
}

void control_client_tell(json_t *event)
{
	struct client *c;

	for (c = clients; c < clients + CLIENTS; c++)
		if (c->used && c->watches)
			say_json(c, event);
	json_decref(event);
}

static void answer_line(struct client *c, const char *line, size_t len)
{
	json_t *call = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	const char *method = json_string_value(json_object_get(call, "method"));
	json_t *params = json_object_get(call, "params"), *id = json_object_get(call, "id");
	json_t *result = NULL, *out;
	int err = 0;

	if (!json_is_object(call))
		err = control_refuse(EINVAL, "not a JSON object on one line");
	else if (!method || (params && !json_is_object(params)))
		err = control_refuse(EINVAL, "a call has a method, and params that are an object");
	else
		result = control_method(method, params, &err);
	if (result)
		out = json_pack("{s:O?, s:o}", "id", id, "result", result);
	else
		out = json_pack("{s:O?, s:{s:s, s:s}}", "id", id, "error", "code",
				control_code(-err), "message", control.error);
	c->watches |= result && !strcmp(method, "watch");
	say_json(c, out);
	json_decref(out);
	json_decref(call);
}

static void answer_get(struct client *c)
{
	static const char head[] = "HTTP/1.0 200 OK\r\nContent-Type: application/openmetrics-text; "
				   "version=1.0.0; charset=utf-8\r\n\r\n";
	size_t len, head_len = sizeof(head) - 1;
	char *text = control_metrics(&len), *all = malloc(head_len + len);

	c->ends = true;
	if (all) {
		memcpy(all, head, head_len);
		memcpy(all + head_len, text, len);
		say(c, all, head_len + len);
	}
	free(all);
	free(text);
}

static bool is_get(const struct client *c)
{
	return c->got >= 4 && !memcmp(c->in, "GET ", 4);
}

/* Line by line, until one has not taken its answer. */
static void answer(struct client *c)
{
	char *end;
	size_t len;

	while (c->used && !c->waiting && !is_get(c) && (end = memchr(c->in, '\n', c->got))) {
		len = (size_t)(end - c->in) + 1;
		answer_line(c, c->in, len - 1);
		if (!c->used)
			return;
		c->got -= len;
		memmove(c->in, c->in + len, c->got);
	}
	if (!c->used || c->waiting)
		return;
	if (is_get(c) && (memmem(c->in, c->got, "\r\n\r\n", 4) || memmem(c->in, c->got, "\n\n", 2)))
		answer_get(c);
	else if (c->got == LINE_MAX_BYTES)
		drop(c, "its line is too long");
}

void control_client_serve(uint32_t index)
{
	struct client *c = &clients[index];
	ssize_t got;

	if (c->used && c->waiting)
		flush(c);
	if (!c->used || c->waiting)
		return;
	if (c->got < LINE_MAX_BYTES) {
		got = recv(c->fd, c->in + c->got, LINE_MAX_BYTES - c->got, MSG_DONTWAIT);
		if (got < 0 && errno != EAGAIN && errno != EINTR) {
			drop(c, NULL);
			return;
		}
		if (got == 0)
			c->ends = true;
		c->got += got > 0 ? (size_t)got : 0;
	}
	answer(c);
	if (c->used && c->ends && !c->waiting)
		drop(c, NULL);
}

/* When no descriptor is left, the spare one makes room to refuse: see vbusd_accept(). */
void control_client_accept(void)
{
	static bool told;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *c = clients;

	if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
		close(spare);
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			close(fd);
		spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
		return;
	}
	if (fd < 0)
		return;
	while (c < clients + CLIENTS && c->used)
		c++;
	if (c == clients + CLIENTS) {
		if (!told)
			vbus_log(NULL, "a client is refused (%u are connected; told once)",
				 CLIENTS);
		told = true;
		close(fd);
		return;
	}
	told = false;
	*c = (struct client){ .used = true, .fd = fd, .in = malloc(LINE_MAX_BYTES) };
	if (!c->in || control_watch(fd, CONTROL_CLIENT, (uint32_t)(c - clients)) < 0)
		drop(c, "no memory");
}

int control_client_listen(const char *path)
{
	char text[VBUS_LISTEN_TEXT];

	spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	listener = vbus_listen(path, SOCK_STREAM, control.owner, text);
	if (listener < 0)
		return control_refuse(EIO, "cannot serve (%s)", text);
	if (control_watch(listener, CONTROL_LISTENER, 0) < 0)
		return control_refuse(EIO, "cannot serve (%s)", strerror(errno));
	return 0;
}
