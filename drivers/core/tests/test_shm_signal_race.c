// SPDX-License-Identifier: MIT
/* shm_signal: no wake-up is lost between two threads. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

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

/* ---- Ping-pong between two threads: each side sleeps until its doorbell rings. ---- */

#define ROUNDS		20000u
/* A lost wake-up is never made up for, so this only bounds the test; a busy machine may stop for seconds. */
#ifdef VBUS_DEFECT_WAKEUP
#define PATIENCE_MS	2000
#else
#define PATIENCE_MS	20000
#endif

static int bell[2];		/* 0: rung by the north, 1: by the south */
static uint32_t work[2];	/* what the signal tells of */

struct side {
	struct shm_signal *signals;
	uint32_t me;
	uint32_t heard;
	uint32_t lost;
};

static void look(void *ctx, uint32_t signal)
{
	struct side *s = ctx;

	(void)signal;
	s->heard = vbus_read32(&work[!s->me]);
}

static void ring(int fd)
{
	const uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		perror("# ring");
}

static void *side(void *arg)
{
	struct side *s = arg;
	struct pollfd p = { .fd = bell[!s->me], .events = POLLIN };
	uint32_t round;
	uint64_t value;

	for (round = 1; round <= ROUNDS && !s->lost; round++) {
		/* North speaks first in each round, south answers. */
		if (!s->me) {
			vbus_write32(&work[0], round);
			if (shm_signal_inject(s->signals, 5))
				ring(bell[0]);
		}
		while (s->heard != round && !s->lost) {
			if (poll(&p, 1, PATIENCE_MS) <= 0 || read(p.fd, &value, sizeof(value)) < 0)
				s->lost = round;
			while (shm_signal_wakeup(s->signals, 2, look, s))
				;
		}
		if (s->me) {
			vbus_write32(&work[1], round);
			if (shm_signal_inject(s->signals, 5))
				ring(bell[1]);
		}
	}
	return NULL;
}

static bool test_no_wake_up_is_lost_between_two_threads_that_sleep_until_rung(void)
{
	struct side a = { .signals = &north, .me = 0 }, b = { .signals = &south, .me = 1 };
	pthread_t thread;
	bool ok;

	bell[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bell[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	work[0] = work[1] = 0;
	shm_signal_enable(&north, 5);
	shm_signal_enable(&south, 5);
	CHECK(!pthread_create(&thread, NULL, side, &b));
	side(&a);
	ok = !pthread_join(thread, NULL) && !a.lost && !b.lost && a.heard == ROUNDS && b.heard == ROUNDS;
	close(bell[0]);
	close(bell[1]);
	if (!ok)
		fprintf(stderr, "# lost in round %u (north) or %u (south)\n", a.lost, b.lost);
	return ok;
}

/*
 * ---- The narrow race: the next signal is sent in the very moment the receiver goes to sleep. ----
 *
 * Doorbells are a counter that the receiver watches without a system call, so that both sides meet
 * within nanoseconds, a million times; that is what it takes to see a missing barrier on x86.
 */

#define MEETINGS	2000000u
#define ENOUGH_MS	1500	/* where both threads share one CPU, fewer meetings have to do */

static uint32_t rung, heard_so_far, over;

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* False when @word kept its value for as long as nobody would ever change it. */
static bool changes(const uint32_t *word, uint32_t from)
{
	uint64_t end = 0;
	uint32_t spins = 0;

	while (vbus_read32(word) == from && !vbus_read32(&over)) {
		if (++spins % 4096)
			continue;
		sched_yield();
		if (!end)
			end = now_ms() + PATIENCE_MS;
		else if (now_ms() > end)
			return false;
	}
	return true;
}

/* Two threads that share a CPU never meet. */
static void stay_on(pthread_t thread, unsigned int nth)
{
	cpu_set_t all, one;
	int cpu;

	if (sched_getaffinity(0, sizeof(all), &all) < 0)
		return;
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all) || nth--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		pthread_setaffinity_np(thread, sizeof(one), &one);
		return;
	}
}

static void hear(void *ctx, uint32_t signal)
{
	(void)ctx;
	(void)signal;
	vbus_write32(&heard_so_far, vbus_read32(&work[0]));
}

static void *sleeper(void *arg)
{
	bool *lost = arg;
	uint32_t last_rung = 0;

	while (!vbus_read32(&over)) {
		*lost = !changes(&rung, last_rung);
		if (*lost)
			break;
		last_rung = vbus_read32(&rung);
		while (shm_signal_wakeup(&south, 2, hear, NULL))
			;
	}
	return NULL;
}

static bool test_a_signal_sent_while_the_receiver_goes_to_sleep_is_not_lost(void)
{
	uint64_t end = now_ms() + ENOUGH_MS;
	bool lost = false, kept = true;
	volatile uint32_t delay;
	pthread_t thread;
	cpu_set_t before;
	uint32_t i;

	CHECK(!sched_getaffinity(0, sizeof(before), &before));
	rung = heard_so_far = over = work[0] = 0;
	/* The scan goes on for a while behind the signal, so that the next one can fall into it. */
	shm_signal_bind(&south, 120, 2);
	shm_signal_enable(&south, 5);
	CHECK(!pthread_create(&thread, NULL, sleeper, &lost));
	/* The other first: from then on this thread sees one CPU only. */
	stay_on(thread, 1);
	stay_on(pthread_self(), 0);
	for (i = 1; kept && i <= MEETINGS && (i % 1024 || now_ms() < end); i++) {
		for (delay = i * 7 % 48; delay; delay--)
			;
		vbus_write32(&work[0], i);
		if (shm_signal_inject(&north, 5))
			vbus_write32(&rung, rung + 1);
		kept = changes(&heard_so_far, i - 1);
	}
	vbus_write32(&over, 1);
	pthread_join(thread, NULL);
	sched_setaffinity(0, sizeof(before), &before);
	fprintf(stderr, "# %u meetings\n", i - 1);
	return kept && !lost;
}

/* ---- A sender that never waits: the last thing it said must be heard. ---- */

static void *sender(void *arg)
{
	uint32_t i;

	(void)arg;
	for (i = 1; i <= 50 * ROUNDS; i++) {
		vbus_write32(&work[0], i);
		if (shm_signal_inject(&north, 5))
			ring(bell[0]);
	}
	return NULL;
}

static bool test_the_last_of_a_stream_of_signals_is_heard(void)
{
	struct side s = { .signals = &south, .me = 1 };
	struct pollfd p;
	pthread_t thread;
	uint64_t value;
	bool lost = false;

	bell[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p = (struct pollfd){ .fd = bell[0], .events = POLLIN };
	work[0] = 0;
	shm_signal_enable(&south, 5);
	CHECK(!pthread_create(&thread, NULL, sender, NULL));
	while (s.heard != 50 * ROUNDS && !lost) {
		lost = poll(&p, 1, PATIENCE_MS) <= 0 || read(p.fd, &value, sizeof(value)) < 0;
		while (shm_signal_wakeup(&south, 2, look, &s))
			;
	}
	pthread_join(thread, NULL);
	close(bell[0]);
	return !lost;
}

static const struct tap_test tests[] = {
	TEST(test_no_wake_up_is_lost_between_two_threads_that_sleep_until_rung),
	TEST(test_a_signal_sent_while_the_receiver_goes_to_sleep_is_not_lost),
	TEST(test_the_last_of_a_stream_of_signals_is_heard),
};

int main(void)
{
	return TAP_RUN(tests, setup, NULL);
}
