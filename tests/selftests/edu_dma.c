// SPDX-License-Identifier: GPL-2.0
/*
 * Let QEMU's edu device do DMA to addresses of the caller's choice.
 *
 *   edu_dma BDF read ADDRESS    the device reads memory at bus address ADDRESS
 *   edu_dma BDF write ADDRESS   the device writes its buffer to ADDRESS
 *   edu_dma BDF physical        the device reads one page of this process and
 *                               writes it to another, both addressed by their
 *                               physical addresses; exit status 0 if the copy
 *                               arrived, 2 if no byte of memory changed
 *
 * A device that the kernel does not know is named CONFIG@BAR instead of BDF: the
 * physical addresses of its configuration space and for its BAR 0.
 *
 * "physical" succeeds where DMA is not translated, and has to come to nothing
 * where it is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edu.h"
#include "physmem.h"

#define TRANSFER	256
#define UNTOUCHED	0xa5

#define EXIT_BLOCKED	2
#define EXIT_CORRUPT	3

static int complain(void)
{
	fprintf(stderr, "usage: edu_dma BDF read|write ADDRESS\n"
			"       edu_dma BDF physical\n");
	return EXIT_FAILURE;
}

static int transfer(const struct edu *edu, const char *direction, const char *address)
{
	char *end;
	const uint64_t bus_address = strtoull(address, &end, 0);

	if (*end)
		return complain();
	if (!strcmp(direction, "read"))
		return edu_read_memory(edu, bus_address, TRANSFER) ? EXIT_FAILURE : EXIT_SUCCESS;
	if (!strcmp(direction, "write"))
		return edu_write_memory(edu, bus_address, TRANSFER) ? EXIT_FAILURE : EXIT_SUCCESS;
	return complain();
}

/* How many bytes of the target differ from what was there before? */
static size_t count_changed(const uint8_t *bytes, size_t len)
{
	size_t changed = 0;

	for (size_t i = 0; i < len; i++)
		changed += bytes[i] != UNTOUCHED;
	return changed;
}

static int physical(const struct edu *edu)
{
	uint8_t *source = physmem_alloc_page();
	uint8_t *target = physmem_alloc_page();
	uint64_t from, to;
	size_t changed;

	if (!source || !target)
		return EXIT_FAILURE;
	physmem_pattern(source, TRANSFER, 1);
	memset(target, UNTOUCHED, TRANSFER);

	from = physmem_address(source);
	to = physmem_address(target);
	if (!from || !to)
		return EXIT_FAILURE;

	printf("from %#llx to %#llx: ", (unsigned long long)from, (unsigned long long)to);
	fflush(stdout);
	if (edu_read_memory(edu, from, TRANSFER) || edu_write_memory(edu, to, TRANSFER))
		return EXIT_FAILURE;

	if (!memcmp(source, target, TRANSFER)) {
		printf("copied\n");
		return EXIT_SUCCESS;
	}
	changed = count_changed(target, TRANSFER);
	printf("%zu of %d bytes changed\n", changed, TRANSFER);
	return changed ? EXIT_CORRUPT : EXIT_BLOCKED;
}

static int open_edu(struct edu *edu, const char *name)
{
	unsigned long long config, bar;

	if (sscanf(name, "%llx@%llx", &config, &bar) == 2)
		return edu_open_unknown(edu, config, bar);
	return edu_open_sysfs(edu, name);
}

int main(int argc, char **argv)
{
	struct edu edu;

	if (argc < 3)
		return complain();
	if (open_edu(&edu, argv[1]))
		return EXIT_FAILURE;

	if (argc == 3 && !strcmp(argv[2], "physical"))
		return physical(&edu);
	if (argc == 4)
		return transfer(&edu, argv[2], argv[3]);
	return complain();
}
