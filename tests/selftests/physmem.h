/* SPDX-License-Identifier: GPL-2.0 */
/* One page of this process, and where it lies in physical memory. */
#ifndef PHYSMEM_H
#define PHYSMEM_H

#include <stddef.h>
#include <stdint.h>

/* A new page: locked, so that it keeps its physical address. NULL on failure. */
uint8_t *physmem_alloc_page(void);

/* The physical address of a page that is present, or 0 if it cannot be told. */
uint64_t physmem_address(const void *page);

/* Fill @len bytes with a pattern that is different for each @seed. */
void physmem_pattern(uint8_t *bytes, size_t len, uint8_t seed);

#endif
