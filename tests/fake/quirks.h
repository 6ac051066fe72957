/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What real devices do otherwise than the specification's model, or where it leaves
 * them the choice. A personality (personality.c) is made of these.
 */
#ifndef _VIRTIO_IOMMU_FAKE_QUIRKS_H
#define _VIRTIO_IOMMU_FAKE_QUIRKS_H

#include <linux/bits.h>

/* A driver's reset keeps domains, endpoints and mappings. A machine reset does not. */
#define FAKE_RESET_KEEPS	BIT(0)
/* A driver's reset of a device in use is its end: it never answers again. */
#define FAKE_RESET_KILLS	BIT(1)
/* The bypass field reads 0 until it is written, although it is 1. */
#define FAKE_BYPASS_READS_0	BIT(2)
/* A refusal has used length 0, with the status written all the same. */
#define FAKE_REFUSES_USED_0	BIT(3)
/* VIRTIO_IOMMU_S_FAULT is not written: no status, used length 0. */
#define FAKE_FAULTS_MUTE	BIT(4)
/* What is attached stays: DETACH and another ATTACH are UNSUPP. */
#define FAKE_DETACH_NEVER	BIT(5)
/* The same, while its domain has another endpoint. */
#define FAKE_DETACH_ALONE	BIT(6)
/* DETACH takes any domain's number, and an endpoint that is not attached. */
#define FAKE_DETACH_LENIENT	BIT(7)
/* DETACH of what is not attached is NOENT, not INVAL. */
#define FAKE_DETACH_NOENT	BIT(8)
/*
 * ATTACH, with the bypass flag, to a domain that was made without it, or the other way
 * round: joins it. Or: INVAL, but the endpoint has left its domain. Otherwise: INVAL.
 */
#define FAKE_KIND_JOINS		BIT(9)
#define FAKE_KIND_LEAVES	BIT(10)
/* ATTACH to the domain that it is in changes nothing, if it is alone there, too. */
#define FAKE_REATTACH_KEEPS	BIT(11)
/* Each id is accepted. */
#define FAKE_ANY_ID		BIT(12)
/* MAP is FAULT where there is no RAM. */
#define FAKE_RAM_ONLY		BIT(13)
/* Of 64 bits, a MAP of the last granule is RANGE, and so is an UNMAP of all. */
#define FAKE_TOP_RANGE		BIT(14)
/* What is reserved, and to be ignored, is written with ones. */
#define FAKE_FILLS_RESERVED	BIT(15)

/* An id that firmware names and the device does not know: NOENT to these requests */
#define FAKE_DENIES_PROBE	BIT(0)
#define FAKE_DENIES_ATTACH	BIT(1)
#define FAKE_DENIES		(FAKE_DENIES_PROBE | FAKE_DENIES_ATTACH)

#endif
