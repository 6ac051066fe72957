// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/mman.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"

#define PAGE_NUMBER_MASK	((1UL << 55) - 1)

static void *anonymous(size_t len, int flags)
{
	void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (memory == MAP_FAILED) {
		perror("mmap");
		return NULL;
	}
	return memory;
}

static void touch(char *byte)
{
	*(volatile char *)byte = 1;
}

void *memory_contiguous(void)
{
	char *memory = anonymous(1UL << 30, MAP_HUGETLB | MAP_HUGE_1GB);

	if (memory)
		touch(memory);
	return memory;
}

/* The number of the physical page, or 0. */
static uint64_t page_number(const char *memory)
{
	static int pagemap = -1;
	uint64_t entry;

	if (pagemap < 0)
		pagemap = open("/proc/self/pagemap", O_RDONLY);
	if (pread(pagemap, &entry, sizeof(entry),
		  (uintptr_t)memory / getpagesize() * sizeof(entry)) != sizeof(entry))
		return 0;
	return entry & PAGE_NUMBER_MASK;
}

static bool are_neighbours(const char *page, const char *next)
{
	return page_number(page) + 1 == page_number(next);
}

/*
 * Pages are often handed out in the order of their addresses. So what is touched
 * in turns with other memory has pages of that in between. Where it does not, one
 * of the others takes the place of the page.
 */
void *memory_scattered(size_t len)
{
	size_t page = getpagesize();
	char *memory = anonymous(len, 0), *others = anonymous(len, 0);
	size_t other = 0;

	if (!memory || !others)
		return NULL;
	for (size_t at = 0; at < len; at += page) {
		touch(memory + at);
		touch(others + at);
	}
	if (!page_number(memory)) {
		perror("/proc/self/pagemap");
		return NULL;
	}
	for (size_t at = page; at < len; at += page) {
		while (are_neighbours(memory + at - page, memory + at)) {
			if (other >= len ||
			    mremap(others + other, page, page, MREMAP_MAYMOVE | MREMAP_FIXED,
				   memory + at) == MAP_FAILED) {
				perror("mremap");
				return NULL;
			}
			other += page;
		}
	}
	return memory;
}
