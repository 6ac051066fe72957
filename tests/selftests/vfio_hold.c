// SPDX-License-Identifier: GPL-2.0
/*
 * Holds a device that is assigned to it, with a page mapped for it.
 *
 *   vfio_hold type1|iommufd BDF [FILE]
 *
 * BDF is bound to vfio-pci. Once the page is mapped, this prints "holding". It
 * holds on until FILE exists. Then the device, a QEMU edu, has to read and write the
 * page, which it has done at the beginning, too. Without FILE, the device may be
 * any, does no DMA, and is held until the process is killed.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "assigned.h"
#include "edu.h"
#include "physmem.h"

#define IOVA		0x400000000ULL
#define TRANSFER	256
#define PATIENCE_SECONDS 600

/* The device copies one half of the page to the other. */
static bool page_is_read_and_written(struct edu *edu, uint8_t *page, unsigned int seed)
{
	uint8_t *target = page + getpagesize() / 2;

	physmem_pattern(page, TRANSFER, seed);
	memset(target, 0, TRANSFER);
	if (!edu_read_memory(edu, IOVA, TRANSFER) &&
	    !edu_write_memory(edu, IOVA + getpagesize() / 2, TRANSFER) &&
	    !memcmp(page, target, TRANSFER))
		return true;
	fprintf(stderr, "the page was not read and written, attempt %u\n", seed);
	return false;
}

int main(int argc, char **argv)
{
	const char *file = argc == 4 ? argv[3] : NULL;
	struct assigned assigned = {};
	struct edu edu = {};
	uint8_t *page;

	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: vfio_hold type1|iommufd BDF [FILE]\n");
		return EXIT_FAILURE;
	}
	assigned.ops = assigned_find(argv[1]);
	page = physmem_alloc_page();
	if (!assigned.ops || !page || assigned.ops->open(&assigned, argv[2]) ||
	    assigned.ops->map(&assigned, IOVA, page, getpagesize(), ASSIGNED_READ_WRITE)) {
		fprintf(stderr, "%s: cannot be assigned, or has no memory\n", argv[2]);
		return EXIT_FAILURE;
	}
	if (file) {
		edu.registers = assigned_start(&assigned);
		if (!edu.registers || edu_check(&edu) || !page_is_read_and_written(&edu, page, 1))
			return EXIT_FAILURE;
	}
	puts("holding");
	fflush(stdout);
	if (!file)
		pause();
	for (int second = 0; access(file, F_OK); second++) {
		if (second == PATIENCE_SECONDS)
			return EXIT_FAILURE;
		sleep(1);
	}
	return page_is_read_and_written(&edu, page, 2) ? EXIT_SUCCESS : EXIT_FAILURE;
}
