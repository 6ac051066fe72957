// SPDX-License-Identifier: GPL-2.0
/* One page of this process, and where it lies in physical memory. */
#include <fcntl.h>
#include <linux/const.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "physmem.h"

#define PAGEMAP_PRESENT		_BITULL(63)
#define PAGEMAP_FRAME		(_BITULL(55) - 1)

uint8_t *physmem_alloc_page(void)
{
	uint8_t *page = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE, -1, 0);

	if (page == MAP_FAILED) {
		perror("mmap");
		return NULL;
	}
	/* Now that it is written, it is no longer the shared page of zeros. */
	page[0] = 0;
	return page;
}

uint64_t physmem_address(const void *page)
{
	const uint64_t index = (uintptr_t)page / getpagesize();
	uint64_t entry = 0;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY);
	if (fd < 0 || pread(fd, &entry, sizeof(entry), index * sizeof(entry)) != sizeof(entry))
		perror("/proc/self/pagemap");
	if (fd >= 0)
		close(fd);

	if (!(entry & PAGEMAP_PRESENT) || !(entry & PAGEMAP_FRAME)) {
		fprintf(stderr, "no physical address for %p (privileges missing?)\n", page);
		return 0;
	}
	return (entry & PAGEMAP_FRAME) * getpagesize();
}

void physmem_pattern(uint8_t *bytes, size_t len, uint8_t seed)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i * 7 + (i >> 8) * 13 + seed);
}
