// SPDX-License-Identifier: GPL-2.0
/*
 * disk NAME DEVICE sequential|random BLOCK-SIZE COUNT THREADS
 *
 * Read blocks of a disk, past every cache, in each of some threads; tell how
 * many nanoseconds all of it took.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mark.h"

#define MAX_THREADS	16

static const char *path;
static size_t block;
static long count, blocks;
static bool is_random;

static long next_block(unsigned long *state)
{
	/* Knuth's MMIX generator: the same blocks in each run */
	*state = *state * 6364136223846793005UL + 1442695040888963407UL;
	return (*state >> 33) % blocks;
}

static void *reader(void *number)
{
	unsigned long state = (unsigned long)number;
	void *buffer = NULL;
	int fd = open(path, O_RDONLY | O_DIRECT);

	if (fd < 0 || posix_memalign(&buffer, getpagesize(), block)) {
		perror(path);
		exit(1);
	}
	for (long i = 0; i < count; i++) {
		long at = is_random ? next_block(&state) : i % blocks;

		if (pread(fd, buffer, block, at * block) != (ssize_t)block) {
			perror(path);
			exit(1);
		}
	}
	free(buffer);
	close(fd);
	return NULL;
}

static long nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

int main(int argc, char **argv)
{
	pthread_t threads[MAX_THREADS];
	long before, after;
	int number, fd;

	if (argc != 7) {
		fprintf(stderr,
			"usage: disk NAME DEVICE sequential|random BLOCK-SIZE COUNT THREADS\n");
		return 2;
	}
	path = argv[2];
	is_random = !strcmp(argv[3], "random");
	block = atol(argv[4]);
	count = atol(argv[5]);
	number = atoi(argv[6]);
	fd = open(path, O_RDONLY);
	if (fd < 0 || number < 1 || number > MAX_THREADS) {
		perror(path);
		return 1;
	}
	blocks = lseek(fd, 0, SEEK_END) / block;

	mark_begin();
	before = nanoseconds();
	for (long i = 0; i < number; i++) {
		if (pthread_create(&threads[i], NULL, reader, (void *)(i + 1))) {
			perror("pthread_create");
			return 1;
		}
	}
	for (int i = 0; i < number; i++)
		pthread_join(threads[i], NULL);
	after = nanoseconds();
	mark_end();
	printf("bench: %s time=%ld operations=%ld\n", argv[1], after - before, count * number);
	return 0;
}
