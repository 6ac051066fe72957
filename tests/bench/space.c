// SPDX-License-Identifier: GPL-2.0
/*
 * space type1|iommufd BDF [RANGE...]
 *
 * Assign a device to this process, and measure what it costs to map and unmap
 * memory for it: ranges from a page to 1 GiB, contiguous and scattered, and
 * ranges of which neither address nor size is a multiple of a large page. With
 * names of ranges, measure these only.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../selftests/assigned.h"
#include "mark.h"
#include "memory.h"

#define KIB	(1UL << 10)
#define MIB	(1UL << 20)
#define GIB	(1UL << 30)

/* Aligned to 1 GiB, and clear of reserved regions */
#define IOVA	(64 * GIB)

static const struct {
	const char *name;
	size_t len;
	/* From the start of a huge page */
	size_t offset;
	bool is_scattered;
} ranges[] = {
	{ "4K", 4 * KIB, 0, false },
	{ "64K", 64 * KIB, 0, false },
	{ "2M", 2 * MIB, 0, false },
	{ "2M-8K-at-4K", 2 * MIB - 8 * KIB, 4 * KIB, false },
	{ "64M", 64 * MIB, 0, false },
	{ "1G", GIB, 0, false },
	{ "1G-8K-at-4K", GIB - 8 * KIB, 4 * KIB, false },
	{ "64K-scattered", 64 * KIB, 0, true },
	{ "2M-scattered", 2 * MIB, 0, true },
	{ "64M-scattered", 64 * MIB, 0, true },
};

#define REPETITIONS	4

static struct assigned assigned;

static void print(const char *what, const char *range, uint64_t instructions)
{
	printf("bench: %s-%s-%s total=%llu\n", assigned.ops->name, range, what,
	       (unsigned long long)instructions);
}

static uint64_t map(char *memory, size_t len, size_t offset)
{
	uint64_t before = counter();

	if (assigned.ops->map(&assigned, IOVA + offset, memory + offset, len,
			      ASSIGNED_READ_WRITE))
		exit(1);
	return counter() - before;
}

static uint64_t unmap(size_t len, size_t offset)
{
	uint64_t before = counter();

	if (assigned.ops->unmap(&assigned, IOVA + offset, len))
		exit(1);
	return counter() - before;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * What is short is done several times, and the least counts: the others have
 * what the kernel does only once, or an interrupt of the timer in them.
 */
static void measure(const char *name, char *memory, size_t len, size_t offset)
{
	uint64_t mapped = UINT64_MAX, unmapped = UINT64_MAX;

	for (int i = 0; len <= 2 * MIB && i < REPETITIONS; i++) {
		mapped = smaller(mapped, map(memory, len, offset));
		unmapped = smaller(unmapped, unmap(len, offset));
	}
	mark_begin();
	mapped = smaller(mapped, map(memory, len, offset));
	mark_end();
	mark_begin();
	unmapped = smaller(unmapped, unmap(len, offset));
	mark_end();
	print("map", name, mapped);
	print("unmap", name, unmapped);
}

static bool is_wanted(const char *name, int argc, char **argv)
{
	for (int i = 3; i < argc; i++) {
		if (!strcmp(name, argv[i]))
			return true;
	}
	return argc == 3;
}

int main(int argc, char **argv)
{
	char *contiguous;

	if (argc < 3) {
		fprintf(stderr, "usage: space type1|iommufd BDF [RANGE...]\n");
		return 2;
	}
	assigned.ops = strcmp(argv[1], "type1") ? &assigned_iommufd : &assigned_type1;
	if (assigned.ops->open(&assigned, argv[2]))
		return 1;

	contiguous = memory_contiguous();
	if (!contiguous)
		return 1;
	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
		size_t len = ranges[i].len;
		char *memory;

		if (!is_wanted(ranges[i].name, argc, argv))
			continue;
		memory = ranges[i].is_scattered ? memory_scattered(len) : contiguous;
		if (!memory)
			return 1;
		measure(ranges[i].name, memory, len, ranges[i].offset);
	}
	return 0;
}
