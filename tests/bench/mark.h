/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs of this directory share: marks in QEMU's trace, and a
 * count of the instructions that the guest has executed.
 *
 * A mark is a byte written to the interrupt line register of the host bridge,
 * which nobody uses. QEMU traces each write to configuration space, in order
 * with the requests that its IOMMU gets: the requests between the n-th
 * mark_begin() and the mark_end() after it belong to the n-th line that begins
 * with "bench:" on the console.
 */
#ifndef MARK_H
#define MARK_H

#include <stdint.h>

void mark_begin(void);
void mark_end(void);

/*
 * The time stamp counter. With QEMU's -icount shift=0 it counts instructions,
 * otherwise it measures time.
 */
static inline uint64_t counter(void)
{
	uint32_t low, high;

	asm volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

#endif
