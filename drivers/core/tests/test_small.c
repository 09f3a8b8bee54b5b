// SPDX-License-Identifier: MIT
/* The small parts of the core: features, states, addresses. */
#include <string.h>

#include "vbus_features.h"
#include "memctx.h"
#include "state.h"
#include "tap.h"

static struct vbus_features f;
static uint32_t offered, active;

static void setup(void)
{
	f = (struct vbus_features){ 0 };
	vbus_features_support(&f, 1, 0x7);
}

static bool test_the_guest_gets_what_it_wants_of_what_is_offered(void)
{
	CHECK(!vbus_features_negotiate(&f, 1, 0xa, &offered, &active) && offered == 0x7 && active == 0x2);
	CHECK(vbus_features_have(&f, 1, 0x2) && !vbus_features_have(&f, 1, 0x3));
	return true;
}

static bool test_a_masked_bit_is_not_offered(void)
{
	CHECK(!vbus_features_mask(&f, 1, 0x2));
	CHECK(!vbus_features_negotiate(&f, 1, 0x7, &offered, &active) && offered == 0x5 && active == 0x5);
	return true;
}

static bool test_a_group_is_picked_once_an_open(void)
{
	vbus_features_negotiate(&f, 1, 0x7, &offered, &active);
	CHECK(vbus_features_negotiate(&f, 1, 0x1, &offered, &active) == VBUS_BUSY && !active);
	CHECK(vbus_features_have(&f, 1, 0x7));
	vbus_features_reset(&f);
	CHECK(!vbus_features_have(&f, 1, 0x1));
	CHECK(!vbus_features_negotiate(&f, 1, 0x1, &offered, &active) && active == 0x1);
	return true;
}

static bool test_an_unknown_group_is_empty(void)
{
	CHECK(!vbus_features_negotiate(&f, 9, 0x7, &offered, &active) && !offered && !active);
	CHECK(!vbus_features_have(&f, 9, 1) && vbus_features_have(&f, 9, 0));
	return true;
}

static bool test_only_known_bits_can_be_masked(void)
{
	CHECK(vbus_features_mask(&f, 1, 0x8) == VBUS_INVALID);
	CHECK(vbus_features_mask(&f, 2, 0x1) == VBUS_INVALID);
	return true;
}

static bool test_a_group_is_supported_once_and_there_is_an_end_to_groups(void)
{
	uint32_t gid;

	CHECK(vbus_features_support(&f, 1, 0x1) == VBUS_BUSY);
	for (gid = 2; gid <= VBUS_FEATURE_GROUPS; gid++)
		CHECK(!vbus_features_support(&f, gid, 1));
	CHECK(vbus_features_support(&f, 99, 1) == VBUS_FULL);
	return true;
}

static bool test_a_lost_device_comes_back_by_replay_only(void)
{
	CHECK(vbus_state_may(VBUS_OPEN, VBUS_LOST) && vbus_state_may(VBUS_LOST, VBUS_REPLAY));
	CHECK(vbus_state_may(VBUS_REPLAY, VBUS_OPEN) && !vbus_state_may(VBUS_LOST, VBUS_OPEN));
	return true;
}

static bool test_a_gone_device_stays_gone_and_every_other_can_go(void)
{
	unsigned int state;

	for (state = 0; state < VBUS_NR_STATES; state++) {
		CHECK(!vbus_state_may(VBUS_GONE, state));
		CHECK(vbus_state_may(state, VBUS_GONE) == (state != VBUS_GONE));
		CHECK(strcmp(vbus_state_name(state), "?"));
	}
	CHECK(!vbus_state_may(VBUS_NR_STATES, VBUS_OPEN) && !vbus_state_may(VBUS_OPEN, VBUS_NR_STATES));
	CHECK(!strcmp(vbus_state_name(VBUS_NR_STATES), "?"));
	return true;
}

static bool test_an_address_leads_into_the_window_or_nowhere(void)
{
	static uint8_t window[64];
	const struct vbus_memctx ctx = { .base = window, .size = sizeof(window) };

	CHECK(vbus_memctx_at(&ctx, 16, 16, 48) == window + 16);
	CHECK(vbus_memctx_at(&ctx, 16, 64, 0) == window + 64);
	CHECK(!vbus_memctx_at(&ctx, 16, 15, 1));
	CHECK(!vbus_memctx_at(&ctx, 16, 16, 49));
	CHECK(!vbus_memctx_at(&ctx, 16, 65, 0));
	return true;
}

static bool test_an_address_cannot_wrap_around(void)
{
	static uint8_t window[64];
	const struct vbus_memctx ctx = { .base = window, .size = sizeof(window) };

	CHECK(!vbus_memctx_at(&ctx, 0, UINT64_MAX, 1) && !vbus_memctx_at(&ctx, 0, UINT64_MAX, 2));
	CHECK(!vbus_memctx_at(&ctx, 0, 32, UINT64_MAX) && !vbus_memctx_at(&ctx, 0, 32, UINT64_MAX - 31));
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_the_guest_gets_what_it_wants_of_what_is_offered),
	TEST(test_a_masked_bit_is_not_offered),
	TEST(test_a_group_is_picked_once_an_open),
	TEST(test_an_unknown_group_is_empty),
	TEST(test_only_known_bits_can_be_masked),
	TEST(test_a_group_is_supported_once_and_there_is_an_end_to_groups),
	TEST(test_a_lost_device_comes_back_by_replay_only),
	TEST(test_a_gone_device_stays_gone_and_every_other_can_go),
	TEST(test_an_address_leads_into_the_window_or_nowhere),
	TEST(test_an_address_cannot_wrap_around),
};

int main(void)
{
	return TAP_RUN(tests, setup, NULL);
}
