// SPDX-License-Identifier: MIT
/* venet-passt's sending half against a socket that takes as few bytes as it likes. */
#include <stdarg.h>
#include <string.h>
#include <sys/uio.h>

#include "tap.h"

static ssize_t stingy_writev(int fd, const struct iovec *parts, int count);
#define writev stingy_writev
#include "../classes/venet_passt.c"

#define FRAMES	40u
#define FRAME	(VENET_MTU_DEFAULT + VENET_OVERHEAD)

static uint8_t sent[FRAMES * (HEAD + FRAME)];
static uint32_t sent_len;
static uint32_t allowance;	/* bytes that the next call takes; none after it */
static bool broken;
static uint32_t watched;
static uint32_t lost;

static void say_link(struct vbus_device *dev)
{
	(void)dev;
}

static const struct vbus_class_ops ops = { .link = say_link };
static struct vbus_bus bus;
static struct vbus_device device;
static struct venet_passt passt;

static ssize_t stingy_writev(int fd, const struct iovec *parts, int count)
{
	uint32_t before = sent_len;
	int i;

	(void)fd;
	if (broken || !allowance) {
		errno = broken ? EPIPE : EAGAIN;
		return -1;
	}
	for (i = 0; i < count; i++) {
		uint32_t part = (uint32_t)parts[i].iov_len;

		if (part > allowance)
			part = allowance;
		memcpy(sent + sent_len, parts[i].iov_base, part);
		sent_len += part;
		allowance -= part;
	}
	allowance = 0;
	return (ssize_t)(sent_len - before);
}

void vbus_log(const char *name, const char *fmt, ...)
{
	(void)name;
	(void)fmt;
}

void venet_scatter(const struct iovec *parts, const void *from, uint32_t len)
{
	(void)parts;
	(void)from;
	(void)len;
}

void vbus_device_watch(struct vbus_device *dev, uint32_t events)
{
	(void)dev;
	watched = events;
}

void vbus_device_lost(struct vbus_device *dev)
{
	dev->fd = -1;
	lost++;
}

static void setup(void)
{
	device = (struct vbus_device){ .bus = &bus, .ops = &ops, .fd = 7, .mtu = VENET_MTU_DEFAULT };
	passt = (struct venet_passt){ .venet = { .dev = &device, .running = true } };
	sent_len = allowance = watched = lost = 0;
	broken = false;
}

static uint32_t make(uint8_t *frame, uint32_t number)
{
	uint32_t len = VENET_FRAME_MIN + number * 97 % (FRAME - VENET_FRAME_MIN + 1), i;

	for (i = 0; i < len; i++)
		frame[i] = (uint8_t)(number + i);
	return len;
}

/* Everything that was sent is whole frames, in order, each once. */
static bool is_whole(void)
{
	uint8_t frame[FRAME];
	uint32_t at = 0, number, len;

	for (number = 0; number < FRAMES; number++) {
		const uint32_t head = htonl(len = make(frame, number));

		if (memcmp(sent + at, &head, HEAD) || memcmp(sent + at + HEAD, frame, len))
			return false;
		at += HEAD + len;
	}
	return at == sent_len;
}

static bool send_all(uint32_t portion)
{
	uint8_t frame[FRAME];
	uint32_t number = 0, len;

	while (number < FRAMES || passt.full) {
		allowance = portion;
		if (passt.full) {
			CHECK(watched & EPOLLOUT);
			woken(&passt.venet);
			continue;
		}
		len = make(frame, number);
		CHECK(transmit(&passt.venet, NULL, frame, len) == VENET_MOVED);
		number++;
		/* The guest may write over its buffer as soon as it was told. */
		memset(frame, 0xee, len);
	}
	return true;
}

static bool test_frames_that_go_in_parts_of_any_size_arrive_whole(void)
{
	static const uint32_t portions[] = { 1, 2, 3, 4, 5, 7, 13, 18, 100, 1525, 1526 };
	uint32_t i;

	for (i = 0; i < sizeof(portions) / sizeof(portions[0]); i++) {
		setup();
		CHECK(send_all(portions[i]));
		CHECK(is_whole());
	}
	return true;
}

static bool test_a_full_socket_leaves_the_frame_with_the_guest_and_says_when_it_has_room(void)
{
	uint8_t frame[FRAME];
	uint32_t len = make(frame, 0);

	CHECK(transmit(&passt.venet, NULL, frame, len) == VENET_NOTHING && !sent_len);
	rest(&passt.venet);
	CHECK(watched & EPOLLOUT);
	allowance = 2000;
	woken(&passt.venet);
	allowance = 2000;
	CHECK(!sent_len && transmit(&passt.venet, NULL, frame, len) == VENET_MOVED);
	CHECK(sent_len == HEAD + len);
	return true;
}

static bool test_the_rest_of_a_frame_goes_out_though_the_guest_has_closed_the_device(void)
{
	uint8_t frame[FRAME];
	uint32_t len = make(frame, 3);

	allowance = 9;
	CHECK(transmit(&passt.venet, NULL, frame, len) == VENET_MOVED && sent_len == 9);
	passt.venet.running = false;
	allowance = 2000;
	device.fd = -1;		/* nothing to read there */
	woken(&passt.venet);
	CHECK(sent_len == HEAD + len && !memcmp(sent + HEAD, frame, len));
	return true;
}

static bool test_a_peer_that_hangs_up_in_the_middle_of_a_frame_is_lost_once_and_forgotten(void)
{
	uint8_t frame[FRAME];
	uint32_t len = make(frame, 3);

	allowance = 9;
	CHECK(transmit(&passt.venet, NULL, frame, len) == VENET_MOVED);
	broken = true;
	woken(&passt.venet);
	CHECK(lost == 1 && passt.venet.dead);

	broken = false;
	sent_len = 0;
	device.fd = 8;
	passt.venet.dead = false;
	renewed(&passt.venet);
	allowance = 2000;
	CHECK(transmit(&passt.venet, NULL, frame, len) == VENET_MOVED && sent_len == HEAD + len);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_frames_that_go_in_parts_of_any_size_arrive_whole),
	TEST(test_a_full_socket_leaves_the_frame_with_the_guest_and_says_when_it_has_room),
	TEST(test_the_rest_of_a_frame_goes_out_though_the_guest_has_closed_the_device),
	TEST(test_a_peer_that_hangs_up_in_the_middle_of_a_frame_is_lost_once_and_forgotten),
};

int main(void)
{
	return TAP_RUN(tests, setup, NULL);
}
