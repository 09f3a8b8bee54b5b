// SPDX-License-Identifier: MIT
/*
 * diskcheck.c - write a disk from many threads, and read back what was written last, over and over.
 *
 *	diskcheck DISK THREADS MIB STOP
 *
 * Each thread has MIB of its own, in blocks; a block carries its number and how often it was
 * written, spread over all of it, so that a lost, torn, old or misplaced block is seen.  It goes on
 * until the file STOP exists, then looks at everything once more.  Past the page cache: O_DIRECT.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK		4096u
#define WORDS		(BLOCK / sizeof(uint64_t))
#define MOST		96u	/* blocks at once: more than one request may carry */
#define SYNC_EVERY	32u
#define ERRORS_MAX	3u	/* a thread; the disk is gone then */

struct worker {
	pthread_t thread;
	uint32_t number;
	uint64_t first;		/* block */
	uint32_t blocks;
	uint32_t *written;	/* times, per block */
	uint64_t *buffer;
	uint64_t random;
	uint64_t writes;
	uint64_t reads;
	uint64_t wrong;
	uint64_t errors;
};

static const char *stop;
static int disk;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* The word at @i of a block; one that was never written is all zeroes. */
static uint64_t word(const struct worker *w, uint32_t block, uint32_t i)
{
	uint64_t state = ((w->first + block) << 32 | w->written[block]) + i * 0x9e3779b97f4a7c15u;

	return w->written[block] ? next_random(&state) | 1 : 0;
}

static void complain(struct worker *w, const char *what, uint32_t block)
{
	fprintf(stderr, "%s: block %llu: %s\n", what, (unsigned long long)(w->first + block),
		strerror(errno));
	w->errors++;
}

static void write_some(struct worker *w, uint32_t block, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		w->written[block + i]++;
	for (i = 0; i < count * WORDS; i++)
		w->buffer[i] = word(w, block + i / WORDS, i % WORDS);
	if (pwrite(disk, w->buffer, count * BLOCK, (off_t)(w->first + block) * BLOCK) !=
	    (ssize_t)(count * BLOCK))
		complain(w, "write", block);
	if (++w->writes % SYNC_EVERY == 0 && fdatasync(disk))
		complain(w, "sync", block);
}

static void read_some(struct worker *w, uint32_t block, uint32_t count)
{
	uint32_t i;

	memset(w->buffer, 0xff, count * BLOCK);
	if (pread(disk, w->buffer, count * BLOCK, (off_t)(w->first + block) * BLOCK) !=
	    (ssize_t)(count * BLOCK)) {
		complain(w, "read", block);
		return;
	}
	w->reads++;
	for (i = 0; i < count * WORDS; i++) {
		if (w->buffer[i] == word(w, block + i / WORDS, i % WORDS))
			continue;
		fprintf(stderr, "block %llu, word %zu: %#llx\n",
			(unsigned long long)(w->first + block + i / WORDS), i % WORDS,
			(unsigned long long)w->buffer[i]);
		w->wrong++;
		return;
	}
}

static void *work(void *data)
{
	struct worker *w = data;
	uint32_t block, count;

	while (access(stop, F_OK) && w->errors < ERRORS_MAX) {
		count = 1 + next_random(&w->random) % (next_random(&w->random) % 8 ? 8 : MOST);
		block = next_random(&w->random) % (w->blocks - count);
		if (next_random(&w->random) & 1)
			write_some(w, block, count);
		else
			read_some(w, block, count);
	}
	for (block = 0; block < w->blocks && w->errors < ERRORS_MAX; block += count) {
		count = w->blocks - block < MOST ? w->blocks - block : MOST;
		read_some(w, block, count);
	}
	return NULL;
}

static bool start(struct worker *w, uint32_t number, uint32_t mib)
{
	w->number = number;
	w->blocks = (mib << 20) / BLOCK;
	w->first = (uint64_t)number * w->blocks;
	w->random = number + 1;
	w->written = calloc(w->blocks, sizeof(*w->written));
	if (!w->written || posix_memalign((void **)&w->buffer, BLOCK, MOST * BLOCK))
		return false;
	return !pthread_create(&w->thread, NULL, work, w);
}

int main(int argc, char **argv)
{
	uint64_t writes = 0, reads = 0, wrong = 0, errors = 0;
	uint32_t count, i;
	struct worker *w;

	if (argc != 5)
		return 2;
	count = (uint32_t)atoi(argv[2]);
	stop = argv[4];
	disk = open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);
	w = calloc(count, sizeof(*w));
	if (disk < 0 || !w) {
		perror(argv[1]);
		return 2;
	}
	for (i = 0; i < count; i++)
		if (!start(&w[i], i, (uint32_t)atoi(argv[3])))
			return 2;
	for (i = 0; i < count; i++) {
		pthread_join(w[i].thread, NULL);
		writes += w[i].writes;
		reads += w[i].reads;
		wrong += w[i].wrong;
		errors += w[i].errors;
	}
	printf("writes=%llu reads=%llu wrong=%llu errors=%llu\n", (unsigned long long)writes,
	       (unsigned long long)reads, (unsigned long long)wrong, (unsigned long long)errors);
	return wrong || errors;
}
