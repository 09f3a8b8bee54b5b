// SPDX-License-Identifier: MIT
/* pool.c - which pages of the pool are in use; kept privately, the window knows nothing of it. */
#include <string.h>

#include "client.h"

static uint64_t pages_of(uint64_t len)
{
	return len / VBUS_PAGE_SIZE + !!(len % VBUS_PAGE_SIZE);
}

static bool is_used(const struct vbus_client *c, uint64_t page)
{
	return c->used[page / 8] & 1u << page % 8;
}

static void mark(struct vbus_client *c, uint64_t page, uint64_t count, bool used)
{
	for (; count; page++, count--) {
		if (used)
			c->used[page / 8] |= (uint8_t)(1u << page % 8);
		else
			c->used[page / 8] &= (uint8_t)~(1u << page % 8);
	}
}

uint64_t vbus_client_alloc(struct vbus_client *c, uint64_t len)
{
	uint64_t want = pages_of(len), end = c->size / VBUS_PAGE_SIZE, page, run = 0;

	for (page = VBUS_POOL / VBUS_PAGE_SIZE; want && page < end; page++) {
		run = is_used(c, page) ? 0 : run + 1;
		if (run < want)
			continue;
		mark(c, page + 1 - want, want, true);
		return (page + 1 - want) * VBUS_PAGE_SIZE;
	}
	return 0;
}

void vbus_client_free(struct vbus_client *c, uint64_t at, uint64_t len)
{
	if (at < VBUS_POOL || at > c->size || len > c->size - at)
		return;
	mark(c, at / VBUS_PAGE_SIZE, pages_of(len), false);
}

void vbus_client_free_all(struct vbus_client *c)
{
	memset(c->used, 0, sizeof(c->used));
}
