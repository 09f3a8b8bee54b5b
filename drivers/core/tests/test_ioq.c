// SPDX-License-Identifier: MIT
/* ioq: both sides of a ring, honest and lying. */
#include <string.h>

#include "ioq.h"
#include "tap.h"
#include "vbus_port.h"

#define COUNT 4u

static _Alignas(64) uint8_t north_part[IOQ_PART_SIZE(COUNT)];
static _Alignas(64) uint8_t south_part[IOQ_PART_SIZE(COUNT)];
static struct ioq_north *const north_page = (void *)north_part;
static struct ioq_south *const south_page = (void *)south_part;
static struct ioq north, south;
static struct ioq_buffer b;

static void setup(void)
{
	memset(north_part, 0, sizeof(north_part));
	memset(south_part, 0, sizeof(south_part));
	ioq_north_init(&north, north_page, south_page, COUNT);
	ioq_south_init(&south, north_page, south_page, sizeof(north_part), sizeof(south_part));
}

static bool test_a_full_ring_refuses_one_more(void)
{
	uint32_t i;

	for (i = 0; i < COUNT; i++)
		CHECK(ioq_push(&north, i, 1, i) == VBUS_OK);
	CHECK(!ioq_room(&north) && ioq_push(&north, 9, 1, 9) == VBUS_FULL);
	return true;
}

static bool test_nothing_is_handed_over_before_the_publish(void)
{
	ioq_push(&north, 1, 1, 1);
	CHECK(ioq_take(&south, &b) == VBUS_EMPTY);
	ioq_push_publish(&north);
	CHECK(ioq_take(&south, &b) == VBUS_OK && b.id == 1);
	ioq_give(&south, 1, 0, 0);
	CHECK(ioq_pop(&north, &b) == VBUS_EMPTY);
	ioq_give_publish(&south);
	CHECK(ioq_pop(&north, &b) == VBUS_OK);
	return true;
}

static bool around(uint32_t times)
{
	uint32_t i;

	for (i = 0; i < times; i++) {
		CHECK(ioq_push(&north, 4096ull * i, i, i) == VBUS_OK);
		ioq_push_publish(&north);
		CHECK(ioq_take(&south, &b) == VBUS_OK && b.id == i && b.len == i && b.addr == 4096ull * i);
		CHECK(ioq_give(&south, i, i + 1, VBUS_STATUS_IO) == VBUS_OK);
		ioq_give_publish(&south);
		CHECK(ioq_pop(&north, &b) == VBUS_OK && b.id == i && b.len == i + 1);
		CHECK(b.status == VBUS_STATUS_IO);
	}
	return ioq_pop(&north, &b) == VBUS_EMPTY && ioq_take(&south, &b) == VBUS_EMPTY;
}

static bool test_what_goes_in_comes_out_in_order(void)
{
	return around(1000);
}

static bool test_the_indices_wrap_at_two_to_the_32(void)
{
	north.valid = north.inuse = south.valid = south.inuse = UINT32_MAX - 2;
	vbus_write32(&north_page->valid, UINT32_MAX - 2);
	vbus_write32(&south_page->inuse, UINT32_MAX - 2);
	CHECK(around(10));
	CHECK(north.valid == 7);
	return true;
}

static bool test_buffers_may_be_given_back_in_any_order(void)
{
	uint32_t i;

	for (i = 0; i < 3; i++)
		ioq_push(&north, i, 1, 10 + i);
	ioq_push_publish(&north);
	for (i = 0; i < 3; i++)
		ioq_take(&south, &b);
	ioq_give(&south, 12, 0, 0);
	ioq_give(&south, 10, 0, 0);
	ioq_give(&south, 11, 0, 0);
	ioq_give_publish(&south);
	CHECK(!ioq_pop(&north, &b) && b.id == 12 && !ioq_pop(&north, &b) && b.id == 10);
	CHECK(!ioq_pop(&north, &b) && b.id == 11);
	return true;
}

static bool test_what_was_not_taken_cannot_be_given(void)
{
	CHECK(ioq_give(&south, 1, 0, 0) == VBUS_INVALID);
	return true;
}

static bool test_a_lying_north_breaks_the_ring_for_good(void)
{
	vbus_write32(&north_page->valid, COUNT + 1);
	CHECK(ioq_take(&south, &b) == VBUS_CORRUPT);
	vbus_write32(&north_page->valid, 0);
	CHECK(ioq_take(&south, &b) == VBUS_CORRUPT && ioq_give(&south, 0, 0, 0) == VBUS_CORRUPT);
	return true;
}

static bool test_a_north_that_takes_back_an_index_breaks_the_ring(void)
{
	ioq_push(&north, 0, 1, 0);
	ioq_push_publish(&north);
	CHECK(!ioq_take(&south, &b));
	vbus_write32(&north_page->valid, 0);
	CHECK(ioq_take(&south, &b) == VBUS_CORRUPT);
	return true;
}

static bool test_a_north_that_fills_slots_still_in_use_breaks_the_ring(void)
{
	uint32_t i;

	for (i = 0; i < COUNT; i++)
		ioq_push(&north, i, 1, i);
	ioq_push_publish(&north);
	for (i = 0; i < COUNT; i++)
		CHECK(!ioq_take(&south, &b));
	vbus_write32(&north_page->valid, COUNT + 1);
	CHECK(ioq_take(&south, &b) == VBUS_CORRUPT);
	return true;
}

static bool test_a_lying_south_breaks_the_ring_for_good(void)
{
	ioq_push(&north, 0, 1, 0);
	ioq_push_publish(&north);
	vbus_write32(&south_page->inuse, 2);
	CHECK(ioq_pop(&north, &b) == VBUS_CORRUPT);
	vbus_write32(&south_page->inuse, 1);
	CHECK(ioq_pop(&north, &b) == VBUS_CORRUPT && ioq_push(&north, 0, 1, 0) == VBUS_CORRUPT);
	return true;
}

static bool test_sizes_that_are_no_power_of_two_or_too_big_are_refused(void)
{
	static const uint32_t bad[] = { 0, 3, COUNT + 1, IOQ_COUNT_MAX * 2, UINT32_MAX, 1u << 31 };
	uint32_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK(ioq_north_init(&north, north_page, south_page, bad[i]) == VBUS_INVALID);
		vbus_write32(&north_page->count, bad[i]);
		CHECK(ioq_south_init(&south, north_page, south_page, sizeof(north_part),
				     sizeof(south_part)) == VBUS_INVALID);
	}
	return true;
}

static bool test_a_part_of_another_length_than_the_count_asks_for_is_refused(void)
{
	const uint32_t len = IOQ_PART_SIZE(COUNT);

	CHECK(ioq_south_init(&south, north_page, south_page, 0, 0) == VBUS_INVALID);
	CHECK(ioq_south_init(&south, north_page, south_page, len - 16, len - 16) == VBUS_INVALID);
	CHECK(ioq_south_init(&south, north_page, south_page, len, len - 16) == VBUS_INVALID);
	CHECK(ioq_south_init(&south, north_page, south_page, len + 16, len + 16) == VBUS_INVALID);
	return true;
}

static bool test_another_magic_or_version_is_refused(void)
{
	vbus_write32(&north_page->version, IOQ_VERSION - 1);
	CHECK(ioq_south_init(&south, north_page, south_page, sizeof(north_part), sizeof(south_part)));
	vbus_write32(&north_page->version, IOQ_VERSION);
	vbus_write32(&north_page->magic, 0);
	CHECK(ioq_south_init(&south, north_page, south_page, sizeof(north_part), sizeof(south_part)));
	return true;
}

static bool test_what_was_published_before_the_south_came_is_found(void)
{
	ioq_push(&north, 0, 1, 42);
	ioq_push_publish(&north);
	ioq_south_init(&south, north_page, south_page, sizeof(north_part), sizeof(south_part));
	CHECK(!ioq_take(&south, &b) && b.id == 42);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_a_full_ring_refuses_one_more),
	TEST(test_nothing_is_handed_over_before_the_publish),
	TEST(test_what_goes_in_comes_out_in_order),
	TEST(test_the_indices_wrap_at_two_to_the_32),
	TEST(test_buffers_may_be_given_back_in_any_order),
	TEST(test_what_was_not_taken_cannot_be_given),
	TEST(test_a_lying_north_breaks_the_ring_for_good),
	TEST(test_a_north_that_takes_back_an_index_breaks_the_ring),
	TEST(test_a_north_that_fills_slots_still_in_use_breaks_the_ring),
	TEST(test_a_lying_south_breaks_the_ring_for_good),
	TEST(test_sizes_that_are_no_power_of_two_or_too_big_are_refused),
	TEST(test_a_part_of_another_length_than_the_count_asks_for_is_refused),
	TEST(test_another_magic_or_version_is_refused),
	TEST(test_what_was_published_before_the_south_came_is_found),
};

int main(void)
{
	return TAP_RUN(tests, setup, NULL);
}
