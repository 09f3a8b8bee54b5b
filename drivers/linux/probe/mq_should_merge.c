// SPDX-License-Identifier: GPL-2.0-only
/* Merging has to be asked for; gone since 6.14, when it became the default. */
#include <linux/blk-mq.h>

extern unsigned int probe;
unsigned int probe = BLK_MQ_F_SHOULD_MERGE;
