// SPDX-License-Identifier: GPL-2.0-only
/* An irq that may move outside its interrupt has to say so; gone since 6.15, the default since. */
#include <linux/irq.h>

extern unsigned int probe;
unsigned int probe = IRQ_MOVE_PCNTXT;
