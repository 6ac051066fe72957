// SPDX-License-Identifier: GPL-2.0
/*
 * dma_map NAME single|sg PAGES THREADS SECONDS
 *
 * Run the kernel's dma_map_benchmark on the device that is bound to it. The
 * latencies are averages, in units of 100 ns.
 */
#include <fcntl.h>
#include <linux/map_benchmark.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "mark.h"

#define BENCHMARK	"/sys/kernel/debug/dma_map_benchmark"

int main(int argc, char **argv)
{
	struct map_benchmark run = {
		.node = -1,
		.dma_bits = 32,
		/* With the other directions, each turn of it writes to all pages. */
		.dma_dir = DMA_MAP_FROM_DEVICE,
	};
	uint64_t before, after;
	int fd;

	if (argc != 6) {
		fprintf(stderr, "usage: dma_map NAME single|sg PAGES THREADS SECONDS\n");
		return 2;
	}
	run.map_mode = strcmp(argv[2], "sg") ? DMA_MAP_BENCH_SINGLE_MODE : DMA_MAP_BENCH_SG_MODE;
	run.granule = atoi(argv[3]);
	run.threads = atoi(argv[4]);
	run.seconds = atoi(argv[5]);

	fd = open(BENCHMARK, O_RDWR);
	if (fd < 0) {
		perror(BENCHMARK);
		return 1;
	}
	mark_begin();
	before = counter();
	if (ioctl(fd, DMA_MAP_BENCHMARK, &run)) {
		perror("DMA_MAP_BENCHMARK");
		return 1;
	}
	after = counter();
	mark_end();
	printf("bench: %s map=%llu unmap=%llu window=%llu\n", argv[1],
	       (unsigned long long)run.avg_map_100ns, (unsigned long long)run.avg_unmap_100ns,
	       (unsigned long long)(after - before));
	return 0;
}
