/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The DMA engine of QEMU's "edu" device (docs/specs/edu.rst in QEMU).
 *
 * It copies between one buffer inside the device and any bus address it is
 * told, which makes it the tool to show what an IOMMU lets through.
 */
#ifndef EDU_H
#define EDU_H

#include <stddef.h>
#include <stdint.h>

/*
 * The longest transfer, in bytes. The buffer holds 4096, but QEMU stops the
 * machine when a transfer ends exactly where the buffer ends.
 */
#define EDU_MAX_TRANSFER 2048

struct edu {
	/* BAR 0 */
	void *registers;
};

/* Map the device through sysfs, with memory access and bus mastering enabled. */
int edu_open_sysfs(struct edu *edu, const char *bdf);

/*
 * The same for a device that the kernel does not know: @config is the physical
 * address of its configuration space, @bar what BAR 0 is set to.
 */
int edu_open_unknown(struct edu *edu, uint64_t config, uint64_t bar);

/* Check that the mapped registers are those of an edu device. */
int edu_check(const struct edu *edu);

/*
 * Let the device read @len bytes at bus address @from into its buffer, or write
 * @len bytes of its buffer to bus address @to. They return when the device says
 * that the transfer is over; it does not say whether it succeeded.
 */
int edu_read_memory(const struct edu *edu, uint64_t from, size_t len);
int edu_write_memory(const struct edu *edu, uint64_t to, size_t len);

/* Let the device raise an interrupt, or take it back. */
void edu_raise_interrupt(const struct edu *edu);
void edu_lower_interrupt(const struct edu *edu);

/* Start such a write, and wait for the end of what was started. */
int edu_start_write(const struct edu *edu, uint64_t to, size_t len);
int edu_wait(const struct edu *edu);

#endif
