/* SPDX-License-Identifier: MIT */
/* north_card.h - a card with as many pairs of rings as a test wants, and buffers when it wants. */
#ifndef NORTH_CARD_H
#define NORTH_CARD_H

#include "north.h"

struct north_pair {
	struct ioq rx, tx;
	uint32_t rx_signal, tx_signal;
	uint64_t rx_buffer, tx_buffer;
};

/**
 * struct north_card
 * Before it is opened:
 * @sg, @l4ro, @config: bits that are wanted, and then those that are active
 * @pairs:   of rings; @slots: of a ring
 * @buffers: that are posted at first, a pair; each has VBUS_CLIENT_BUFFER bytes
 */
struct north_card {
	struct vbus_client *client;
	uint32_t sg, l4ro, config;
	uint32_t pairs, slots, buffers;
	uint32_t handle;
	struct north_pair pair[VENET_PAIRS_MAX];
};

/* DEVOPEN, features, rings; no LINKUP. */
bool north_card_share(struct vbus_client *c, struct north_card *card, uint8_t number);
/* The same, and LINKUP. */
bool north_card_open(struct vbus_client *c, struct north_card *card, uint8_t number);
/* @count more buffers. */
void north_card_post(struct north_card *card, uint32_t pair, uint32_t count);
/* One frame, when the host has given the one before back; @head may be NULL. */
void north_card_send(struct north_card *card, uint32_t pair, const struct venet_header *head,
		     const void *frame, uint32_t len);
/* The next frame, if there is one; its buffers are not posted again.  False as well for a lie. */
bool north_card_take(struct north_card *card, uint32_t pair, struct venet_header *head,
		     uint8_t *frame, uint32_t *len);

#endif /* NORTH_CARD_H */
