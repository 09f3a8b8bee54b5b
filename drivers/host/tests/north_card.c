// SPDX-License-Identifier: MIT
/* north_card.c - see north_card.h. */
#include <stdio.h>
#include <string.h>

#include "north_card.h"

static bool share_ring(struct north_card *card, uint32_t region, struct ioq *ring,
		       uint32_t *signal)
{
	uint32_t len = IOQ_PART_SIZE(card->slots);
	uint64_t at = north_alloc(card->client, len), south = north_alloc(card->client, len);
	uint8_t *base = card->client->base;

	return at && south &&
	       !ioq_north_init(ring, (void *)(base + at), (void *)(base + south), card->slots) &&
	       !north_share(card->client, card->handle, region, at, south, len, len, signal);
}

static bool share_pair(struct north_card *card, uint32_t n)
{
	struct north_pair *pair = &card->pair[n];

	pair->rx_buffer = north_alloc(card->client, card->slots * VBUS_CLIENT_BUFFER);
	pair->tx_buffer = north_alloc(card->client, VBUS_CLIENT_HEADER + VENET_FRAME_MAX);
	if (!pair->rx_buffer || !pair->tx_buffer ||
	    !share_ring(card, VENET_REGION_RX(n), &pair->rx, &pair->rx_signal) ||
	    !share_ring(card, VENET_REGION_TX(n), &pair->tx, &pair->tx_signal))
		return false;
	north_card_post(card, n, card->buffers);
	return true;
}

bool north_card_share(struct vbus_client *c, struct north_card *card, uint8_t number)
{
	uint8_t uuid[VBUS_UUID_LEN];
	uint32_t i;

	memset(uuid, number, sizeof(uuid));
	card->client = c;
	if (vbus_client_dev_open(c, uuid, VENET_VERSION, &card->handle, NULL) ||
	    vbus_client_dev_features(c, card->handle, VENET_GROUP_SG, card->sg, &card->sg) ||
	    vbus_client_dev_features(c, card->handle, VENET_GROUP_L4RO, card->l4ro, &card->l4ro) ||
	    vbus_client_dev_features(c, card->handle, VENET_GROUP_CONFIG, card->config,
				     &card->config))
		return false;
	for (i = 0; i < card->pairs; i++)
		if (!share_pair(card, i))
			return false;
	return true;
}

bool north_card_open(struct vbus_client *c, struct north_card *card, uint8_t number)
{
	return north_card_share(c, card, number) && !north_link_up(c, card->handle, card->pairs);
}

void north_card_post(struct north_card *card, uint32_t n, uint32_t count)
{
	struct north_pair *pair = &card->pair[n];
	uint32_t id;

	for (; count; count--) {
		id = pair->rx.valid % card->slots;
		ioq_push(&pair->rx, pair->rx_buffer + id * VBUS_CLIENT_BUFFER, VBUS_CLIENT_BUFFER,
			 id);
	}
	ioq_push_publish(&pair->rx);
	if (pair->rx_signal)
		north_inject(card->client, pair->rx_signal);
}

/* The host has given back all that was sent on it. */
static bool is_idle(struct north_pair *pair)
{
	struct ioq_buffer done;

	while (!ioq_pop(&pair->tx, &done))
		;
	return ioq_room(&pair->tx) == pair->tx.count;
}

void north_card_send(struct north_card *card, uint32_t n, const struct venet_header *head,
		     const void *frame, uint32_t len)
{
	static const struct venet_header nothing;
	struct north_pair *pair = &card->pair[n];
	uint8_t *at = card->client->base + pair->tx_buffer;

	if (!RIG_UNTIL(is_idle(pair)))
		fprintf(stderr, "# a frame is not given back\n");
	memcpy(at, head ? head : &nothing, VBUS_CLIENT_HEADER);
	memcpy(at + VBUS_CLIENT_HEADER, frame, len);
	ioq_push(&pair->tx, pair->tx_buffer, VBUS_CLIENT_HEADER + len,
		 pair->tx.valid % card->slots);
	ioq_push_publish(&pair->tx);
	north_inject(card->client, pair->tx_signal);
}

static bool take_one(struct north_card *card, struct north_pair *pair, uint8_t *to, uint32_t *len)
{
	struct ioq_buffer done;

	if (ioq_pop(&pair->rx, &done) || done.status || done.id >= card->slots ||
	    done.len > VBUS_CLIENT_BUFFER)
		return false;
	memcpy(to, card->client->base + pair->rx_buffer + done.id * VBUS_CLIENT_BUFFER, done.len);
	*len = done.len;
	return true;
}

bool north_card_take(struct north_card *card, uint32_t n, struct venet_header *head,
		     uint8_t *frame, uint32_t *len)
{
	static uint8_t whole[VBUS_CLIENT_HEADER + VENET_FRAME_MAX + VBUS_CLIENT_BUFFER];
	struct north_pair *pair = &card->pair[n];
	uint32_t have, last, i;

	if (!take_one(card, pair, whole, &have) || have < VBUS_CLIENT_HEADER)
		return false;
	memcpy(head, whole, VBUS_CLIENT_HEADER);
	/* All of them were published together, and each but the last is full. */
	for (i = 1, last = have; i < head->buffers; i++, have += last)
		if (last != VBUS_CLIENT_BUFFER || have > sizeof(whole) - VBUS_CLIENT_BUFFER ||
		    !take_one(card, pair, whole + have, &last))
			return false;
	if (!head->buffers || have > VBUS_CLIENT_HEADER + VENET_FRAME_MAX)
		return false;
	*len = have - VBUS_CLIENT_HEADER;
	memcpy(frame, whole + VBUS_CLIENT_HEADER, *len);
	return true;
}
