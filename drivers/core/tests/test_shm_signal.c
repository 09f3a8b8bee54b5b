// SPDX-License-Identifier: MIT
/* shm_signal: what each side promises the other. */
#include <stdint.h>
#include <string.h>

#include "shm_signal.h"
#include "tap.h"
#include "vbus_port.h"

static struct shm_signal_page north_page, south_page;
static struct shm_signal north, south;

static void setup(void)
{
	memset(&north_page, 0, sizeof(north_page));
	memset(&south_page, 0, sizeof(south_page));
	shm_signal_init(&north, &north_page, &south_page);
	shm_signal_init(&south, &south_page, &north_page);
	shm_signal_bind(&north, 5, 2);
	shm_signal_bind(&south, 5, 2);
}

static uint32_t last, times;

static void note(void *ctx, uint32_t signal)
{
	(void)ctx;
	last = signal;
	times++;
}

/* How many signals a wake-up finds. */
static uint32_t found(uint32_t queue)
{
	uint32_t before = times;

	while (shm_signal_wakeup(&south, queue, note, NULL))
		;
	return times - before;
}

static bool test_an_enabled_signal_rings_and_is_dispatched_once(void)
{
	times = 0;
	shm_signal_enable(&south, 5);
	CHECK(shm_signal_inject(&north, 5));
	CHECK(found(2) == 1 && last == 5 && times == 1);
	CHECK(!found(2));
	return true;
}

static bool test_a_disabled_signal_does_not_ring_and_is_found_dirty_when_enabled(void)
{
	CHECK(!shm_signal_inject(&north, 5));
	CHECK(!found(2));
	CHECK(shm_signal_enable(&south, 5));
	CHECK(!shm_signal_enable(&south, 5));
	return true;
}

static bool test_an_awake_receiver_is_not_rung(void)
{
	shm_signal_enable(&south, 5);
	vbus_write32(&south_page.awake[2], 1);
	CHECK(!shm_signal_inject(&north, 5));
	vbus_write32(&south_page.awake[2], 0);
	CHECK(shm_signal_inject(&north, 5));
	return true;
}

static bool sent_again, rang_again;

static void send_again(void *ctx, uint32_t signal)
{
	(void)ctx;
	if (!sent_again)
		rang_again = shm_signal_inject(&north, signal);
	sent_again = true;
}

static bool test_a_signal_sent_during_the_scan_is_found_without_a_doorbell(void)
{
	sent_again = false;
	shm_signal_enable(&south, 5);
	shm_signal_inject(&north, 5);
	CHECK(!shm_signal_wakeup(&south, 2, send_again, NULL) && sent_again && !rang_again);
	CHECK(!found(2));
	return true;
}

static void send_for_ever(void *ctx, uint32_t signal)
{
	note(ctx, signal);
	shm_signal_inject(&north, signal);
}

static bool test_a_peer_that_never_pauses_is_left_and_come_back_to_without_a_doorbell(void)
{
	times = 0;
	shm_signal_enable(&south, 5);
	shm_signal_inject(&north, 5);
	CHECK(shm_signal_wakeup(&south, 2, send_for_ever, NULL));
	CHECK(times >= 2 && times <= 16 && !vbus_read32(&south_page.awake[2]));
	/* The last one was not yet heard. */
	CHECK(found(2) == 1 && !found(2));
	return true;
}

static bool test_many_injects_are_one_event(void)
{
	uint32_t i;

	times = 0;
	shm_signal_enable(&south, 5);
	for (i = 0; i < 100; i++)
		shm_signal_inject(&north, 5);
	CHECK(found(2) == 1 && times == 1);
	return true;
}

static bool test_256_injects_between_two_looks_are_seen_where_a_byte_would_show_nothing(void)
{
	uint32_t before = vbus_read32(&north_page.sequence[5]), i;

	shm_signal_enable(&south, 5);
	for (i = 0; i < 256; i++)
		shm_signal_inject(&north, 5);
	/* This is why the sequence is a word: as a byte it stands where it stood. */
	CHECK((uint8_t)vbus_read32(&north_page.sequence[5]) == (uint8_t)before);
	CHECK(found(2) == 1);
	return true;
}

static bool test_a_signal_of_another_queue_is_left_alone(void)
{
	shm_signal_enable(&south, 5);
	shm_signal_inject(&north, 5);
	CHECK(!found(1));
	CHECK(found(2) == 1);
	return true;
}

static bool test_what_was_sent_before_a_bind_is_old_news(void)
{
	shm_signal_bind(&north, 6, 2);
	shm_signal_inject(&north, 6);
	CHECK(shm_signal_bind(&south, 6, 2) == VBUS_OK);
	CHECK(!shm_signal_enable(&south, 6));
	return true;
}

static bool test_a_move_that_both_sides_made_loses_nothing_once_the_sender_has_injected_again(void)
{
	shm_signal_enable(&south, 5);
	CHECK(shm_signal_rebind(&south, 5, 3) == VBUS_OK);
	/* The sender does not know yet: on neither queue anything is found. */
	shm_signal_inject(&north, 5);
	CHECK(!found(2) && !found(3));
	CHECK(shm_signal_rebind(&north, 5, 3) == VBUS_OK);
	CHECK(shm_signal_inject(&north, 5));
	CHECK(!found(2) && found(3) == 1);
	return true;
}

static bool test_a_look_finds_what_a_wake_up_would_and_leaves_it_there(void)
{
	shm_signal_enable(&south, 5);
	CHECK(!shm_signal_has_news(&south, 2));
	shm_signal_inject(&north, 5);
	CHECK(shm_signal_has_news(&south, 2) && shm_signal_has_news(&south, 2));
	CHECK(!shm_signal_has_news(&south, 3));
	CHECK(found(2) == 1 && !shm_signal_has_news(&south, 2));
	return true;
}

static bool test_numbers_out_of_range_do_nothing(void)
{
	CHECK(shm_signal_bind(&south, VBUS_SIGNALS, 0) == VBUS_INVALID);
	CHECK(shm_signal_bind(&south, 7, VBUS_QUEUES) == VBUS_INVALID);
	CHECK(shm_signal_bind(&south, 5, 0) == VBUS_BUSY);
	CHECK(shm_signal_rebind(&south, VBUS_SIGNALS, 0) == VBUS_INVALID);
	CHECK(shm_signal_rebind(&south, 5, VBUS_QUEUES) == VBUS_INVALID);
	CHECK(shm_signal_rebind(&south, 7, 0) == VBUS_INVALID);
	CHECK(!shm_signal_has_news(&south, VBUS_QUEUES));
	CHECK(!shm_signal_inject(&north, VBUS_SIGNALS) && !shm_signal_inject(&north, 7));
	CHECK(!shm_signal_enable(&south, VBUS_SIGNALS) && !found(VBUS_QUEUES));
	shm_signal_unbind(&south, VBUS_SIGNALS);
	shm_signal_disable(&south, VBUS_SIGNALS);
	return true;
}

static bool test_a_sequence_goes_on_over_its_wrap_and_over_a_new_start(void)
{
	north.sent[5] = UINT32_MAX;
	vbus_write32(&north_page.sequence[5], UINT32_MAX);
	shm_signal_unbind(&south, 5);
	shm_signal_bind(&south, 5, 2);
	shm_signal_enable(&south, 5);
	CHECK(shm_signal_inject(&north, 5));
	CHECK(found(2) == 1);

	shm_signal_init(&north, &north_page, &south_page);
	shm_signal_bind(&north, 5, 2);
	CHECK(shm_signal_inject(&north, 5));
	CHECK(found(2) == 1);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_an_enabled_signal_rings_and_is_dispatched_once),
	TEST(test_a_disabled_signal_does_not_ring_and_is_found_dirty_when_enabled),
	TEST(test_an_awake_receiver_is_not_rung),
	TEST(test_a_signal_sent_during_the_scan_is_found_without_a_doorbell),
	TEST(test_a_peer_that_never_pauses_is_left_and_come_back_to_without_a_doorbell),
	TEST(test_many_injects_are_one_event),
	TEST(test_256_injects_between_two_looks_are_seen_where_a_byte_would_show_nothing),
	TEST(test_a_signal_of_another_queue_is_left_alone),
	TEST(test_what_was_sent_before_a_bind_is_old_news),
	TEST(test_a_move_that_both_sides_made_loses_nothing_once_the_sender_has_injected_again),
	TEST(test_a_look_finds_what_a_wake_up_would_and_leaves_it_there),
	TEST(test_numbers_out_of_range_do_nothing),
	TEST(test_a_sequence_goes_on_over_its_wrap_and_over_a_new_start),
};

int main(void)
{
	return TAP_RUN(tests, setup, NULL);
}
