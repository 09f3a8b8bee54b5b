// SPDX-License-Identifier: GPL-2.0-only
/* A disk is made with its queue's limits, features among them; since 6.11, setters before. */
#include <linux/blk-mq.h>

struct gendisk *probe(struct blk_mq_tag_set *tags);
struct gendisk *probe(struct blk_mq_tag_set *tags)
{
	struct queue_limits limits = { .features = BLK_FEAT_WRITE_CACHE };

	return blk_mq_alloc_disk(tags, &limits, NULL);
}
