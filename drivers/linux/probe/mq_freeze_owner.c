// SPDX-License-Identifier: GPL-2.0-only
/* A frozen queue has an owner, unless it is told otherwise; since 6.13. */
#include <linux/blk-mq.h>

void probe(struct request_queue *queue);
void probe(struct request_queue *queue)
{
	blk_freeze_queue_start_non_owner(queue);
	blk_mq_unfreeze_queue_non_owner(queue);
}
