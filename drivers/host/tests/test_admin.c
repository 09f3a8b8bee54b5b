// SPDX-License-Identifier: MIT
/* What a local user can send to vbusd's socket; numbers are those of docs/defects.md. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "rig.h"
#include "tap.h"
#include "venet_abi.h"

static struct rig rig;

static void setup(void)
{
	struct vbusd_request a = rig_device("venet-loopback", 1),
			     b = rig_device("venet-loopback", 2);

	if (!rig_start(&rig) || !rig_add_bus(&rig) || rig_ask(&rig, &a, NULL) ||
	    rig_ask(&rig, &b, NULL))
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	rig_stop(&rig);
}

static struct vbusd_bus_status status(void)
{
	struct vbusd_bus_status s = { .restarts = 99 };

	rig_bus_status(&rig, 0, &s);
	return s;
}

static int dial(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	memcpy(at.sun_path, rig.admin_path, sizeof(rig.admin_path));
	if (s >= 0 && connect(s, (struct sockaddr *)&at, sizeof(at)) < 0) {
		close(s);
		s = -1;
	}
	return s;
}

static bool answers(struct vbusd_request q, enum vbusd_result result)
{
	enum vbusd_result got = rig_ask(&rig, &q, NULL);

	if (got == result)
		return true;
	fprintf(stderr, "# request %u: wanted %u, got %u\n", q.op, result, got);
	return false;
}

/* 14: there a name could go on behind its field. */
static bool test_a_string_without_an_end_is_no_request(void)
{
	struct vbusd_request q;
	uint32_t op;

	for (op = VBUSD_BUS_ADD; op <= VBUSD_START; op++) {
		q = rig_request(op);
		memset(q.bus, 'b', sizeof(q.bus));
		CHECK(answers(q, VBUSD_MALFORMED));
		q = rig_request(op);
		memset(q.klass, 'v', sizeof(q.klass));
		CHECK(answers(q, VBUSD_MALFORMED));
		q = rig_request(op);
		memset(q.argument, '/', sizeof(q.argument));
		CHECK(answers(q, VBUSD_MALFORMED));
	}
	CHECK(status().worker > 0 && !status().restarts);
	return true;
}

/* 13: there a request was a pointer that was followed; here it is a message of one length. */
static bool test_a_message_of_any_other_length_is_no_request(void)
{
	struct vbusd_request q[2] = { rig_request(VBUSD_BUS_STATUS) };
	struct vbusd_reply a;
	size_t len;

	for (len = 1; len <= sizeof(q); len++) {
		if (len == sizeof(q[0]))
			continue;
		CHECK(send(rig.admin, q, len, MSG_NOSIGNAL) == (ssize_t)len);
		CHECK(recv(rig.admin, &a, sizeof(a), 0) == (ssize_t)sizeof(a));
		CHECK(a.result == VBUSD_MALFORMED);
	}
	CHECK(status().worker > 0);
	return true;
}

static const uint32_t odd[] = { 3, 7, 33, 511, 513, 1u << 31, INT32_MAX, UINT32_MAX };
#define ODD	(sizeof(odd) / sizeof(odd[0]))

static struct vbusd_request second_bus(void)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_ADD);

	strcpy(q.bus, "c");
	strcpy(q.argument, "/nowhere/c");
	q.window_mib = 1;
	q.vectors = 8;
	return q;
}

static bool test_a_number_out_of_range_is_refused_in_every_field(void)
{
	struct vbusd_request q;
	uint32_t i;

	for (i = 0; i < ODD; i++) {
		q = second_bus();
		q.window_mib = odd[i];
		CHECK(answers(q, VBUSD_RANGE));
		q = second_bus();
		q.vectors = odd[i] == 33 || odd[i] == 7 || odd[i] > 33 ? odd[i] : 0;
		CHECK(answers(q, VBUSD_RANGE));
		q = second_bus();
		q.connector = odd[i];
		CHECK(answers(q, VBUSD_UNKNOWN));
		q = rig_device("venet-loopback", 9);
		q.block_size = odd[i];
		CHECK(answers(q, VBUSD_RANGE));
		q = rig_device("venet-loopback", 9);
		q.mtu = odd[i] >= VENET_MTU_MIN && odd[i] <= VENET_MTU_MAX ? VENET_MTU_MAX + 1 :
									    odd[i];
		CHECK(answers(q, VBUSD_RANGE));
		q = rig_device("", 1);
		q.op = VBUSD_MASK;
		q.mask[0].gid = odd[i] <= VENET_GROUP_CONFIG ? VBUSD_GROUPS : odd[i];
		q.mask[0].bits = 1;
		CHECK(answers(q, VBUSD_UNKNOWN));
		q.mask[0].gid = VENET_GROUP_EVENTQ;
		q.mask[0].bits = odd[i] & ~1u;
		CHECK(answers(q, VBUSD_UNKNOWN));
		q = rig_request(VBUSD_BUS_STATUS);
		q.index = odd[i];
		CHECK(answers(q, VBUSD_NO_ENTRY));
		q.op = VBUSD_DEVICE_STATUS;
		CHECK(answers(q, VBUSD_NO_ENTRY));
		q.op = VBUSD_CLASS_STATUS;
		q.index = odd[i] == 3 ? UINT32_MAX - 1 : odd[i];
		CHECK(answers(q, VBUSD_NO_ENTRY));
		q = rig_request(odd[i] < VBUSD_START ? 0 : odd[i]);
		CHECK(answers(q, VBUSD_MALFORMED));
		q = rig_request(VBUSD_BUS_STATUS);
		q.version = odd[i];
		CHECK(answers(q, VBUSD_MALFORMED));
	}
	CHECK(status().devices == 2 && !status().restarts);
	return true;
}

static bool test_a_bit_that_an_operation_does_not_know_is_refused_in_words(void)
{
	static const uint32_t known[] = {
		[VBUSD_DEVICE_ADD] = VBUSD_LINK_DOWN | VBUSD_READ_ONLY,
		[VBUSD_MASK] = VBUSD_ALL_DEVICES,
		[VBUSD_LINK] = VBUSD_LINK_DOWN,
		[VBUSD_BUS_ADD] = VBUSD_HELD,
		[VBUSD_START] = VBUSD_FENCED,
	};
	char text[VBUSD_TEXT_LEN], words[32];
	struct vbusd_request q;
	uint32_t op, bit;

	for (op = VBUSD_BUS_ADD; op <= VBUSD_START; op++) {
		for (bit = 0; bit < 32; bit++) {
			q = rig_request(op);
			q.flags = 1u << bit;
			if (known[op] & q.flags)
				continue;
			CHECK(rig_ask(&rig, &q, text) == VBUSD_MALFORMED);
			snprintf(words, sizeof(words), "flags %#x are not known", q.flags);
			CHECK(strstr(text, words));
		}
		for (bit = 6; bit < 8; bit++) {
			q = rig_request(op);
			q.mac[bit] = 1;
			CHECK(rig_ask(&rig, &q, text) == VBUSD_MALFORMED);
			CHECK(strstr(text, "mac: is longer than 6 bytes"));
		}
	}
	CHECK(status().worker > 0 && status().devices == 2 && !status().restarts);
	return true;
}

static uint32_t count_descriptors(void)
{
	uint32_t count = 0;
	char path[64];
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)rig.vbusd);
	folder = opendir(path);
	while (folder && readdir(folder))
		count++;
	if (folder)
		closedir(folder);
	return count;
}

/* True when vbusd said nothing and closed it. */
static bool is_refused(int s)
{
	char byte;

	return s >= 0 && recv(s, &byte, 1, 0) <= 0;
}

static bool is_served(int s)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_STATUS);
	struct vbusd_reply a;

	return send(s, &q, sizeof(q), MSG_NOSIGNAL) == (ssize_t)sizeof(q) &&
	       recv(s, &a, sizeof(a), 0) == (ssize_t)sizeof(a) && a.result == VBUSD_OK;
}

static bool is_served_anew(void)
{
	int s = dial();
	bool ok = s >= 0 && is_served(s);

	if (s >= 0)
		close(s);
	return ok;
}

#define SEATS		8u	/* VBUSD_CLIENTS */
#define CROWD		1000u

/* 18: there nothing that a user made was counted. */
static bool test_a_thousand_connections_get_eight_seats_and_one_line_of_the_log(void)
{
	static int crowd[CROWD];
	uint32_t before = count_descriptors(), i, refused = 0;
	struct rlimit files;

	CHECK(!getrlimit(RLIMIT_NOFILE, &files));
	files.rlim_cur = files.rlim_max;
	CHECK(!setrlimit(RLIMIT_NOFILE, &files));
	for (i = 0; i < CROWD; i++) {
		crowd[i] = dial();
		CHECK(crowd[i] >= 0);
	}
	for (i = 0; i < SEATS - 1; i++)
		CHECK(is_served(crowd[i]));
	for (; i < CROWD; i++)
		refused += is_refused(crowd[i]);
	CHECK(refused == CROWD - (SEATS - 1) && status().worker > 0);
	for (i = 0; i < CROWD; i++)
		close(crowd[i]);
	CHECK(rig_count_logged(&rig, "an administrator is refused") == 1);
	CHECK(RIG_UNTIL(is_served_anew()));
	CHECK(RIG_UNTIL(count_descriptors() == before));
	return true;
}

static bool was_dropped(int s)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_STATUS);

	return send(s, &q, sizeof(q), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
	       (errno == EPIPE || errno == ECONNRESET);
}

static bool test_an_administrator_who_never_reads_is_dropped_and_nobody_waits(void)
{
	uint32_t before = count_descriptors();
	int s = dial();

	CHECK(s >= 0);
	CHECK(RIG_UNTIL(was_dropped(s) || !status().worker));
	CHECK(status().worker > 0);
	close(s);
	CHECK(RIG_UNTIL(count_descriptors() == before));
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_a_string_without_an_end_is_no_request),
	TEST(test_a_message_of_any_other_length_is_no_request),
	TEST(test_a_number_out_of_range_is_refused_in_every_field),
	TEST(test_a_bit_that_an_operation_does_not_know_is_refused_in_words),
	TEST(test_a_thousand_connections_get_eight_seats_and_one_line_of_the_log),
	TEST(test_an_administrator_who_never_reads_is_dropped_and_nobody_waits),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
