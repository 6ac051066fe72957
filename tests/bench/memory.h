/* SPDX-License-Identifier: GPL-2.0 */
/* Memory to map for a device. Each function prints what failed, and returns NULL then. */
#ifndef MEMORY_H
#define MEMORY_H

#include <stddef.h>

/* 1 GiB in one huge page */
void *memory_contiguous(void);

/* Memory of which no two neighbouring pages are neighbours in physical memory. */
void *memory_scattered(size_t len);

#endif
