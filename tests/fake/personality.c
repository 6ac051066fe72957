// SPDX-License-Identifier: GPL-2.0
/*
 * Personalities: the fake device as each of the real ones, by what was seen of it, or
 * read in its source.
 */
#include <linux/ioport.h>
#include <linux/module.h>
#include <linux/sizes.h>

#include "fake.h"

#define F(bit) BIT_ULL(bit)

/* What all of them have */
#define REAL(_features)							\
	.features = F(VIRTIO_F_VERSION_1) | F(VIRTIO_IOMMU_F_MAP_UNMAP) | \
		    F(VIRTIO_IOMMU_F_PROBE) | (_features),		\
	.page_size_mask = ~0xfffULL, .bypass = 1, .probe_size = 24,	\
	.ring_size = 256, .event_ring_size = 256

#define QEMU								\
	REAL(FAKE_FEATURES), .domain_end = U32_MAX, .probe_size = 512

#define CROSVM								\
	REAL(F(VIRTIO_RING_F_EVENT_IDX) | F(VIRTIO_IOMMU_F_INPUT_RANGE) | \
	     F(VIRTIO_IOMMU_F_MMIO)),					\
	.input_end = BIT_ULL(48) - 1

#define CROSVM_QUIRKS							\
	(FAKE_RESET_KILLS | FAKE_DETACH_ALONE | FAKE_DETACH_LENIENT |	\
	 FAKE_RAM_ONLY | FAKE_FAULTS_MUTE)

const struct fake_personality fake_personalities[] = {
	{ "qemu72", { QEMU, .input_end = U64_MAX,
	  .quirks = FAKE_KIND_JOINS | FAKE_DETACH_NOENT } },
	/* On q35; 10.0 and 11.1 */
	{ "qemu10", { QEMU, .input_end = BIT_ULL(39) - 1,
	  .quirks = FAKE_RESET_KEEPS | FAKE_KIND_LEAVES | FAKE_DETACH_NOENT } },
	{ "cloud-hypervisor", { REAL(F(VIRTIO_IOMMU_F_BYPASS_CONFIG)),
	  .page_size_mask = SZ_4K | SZ_2M, .input_end = U64_MAX,
	  .quirks = FAKE_RESET_KEEPS | FAKE_BYPASS_READS_0 |
		    FAKE_REFUSES_USED_0 | FAKE_DETACH_LENIENT |
		    FAKE_REATTACH_KEEPS | FAKE_ANY_ID | FAKE_TOP_RANGE } },
	{ "crosvm", { CROSVM, .quirks = CROSVM_QUIRKS } },
	/* With an endpoint of the host's, by VFIO */
	{ "crosvm-vfio", { CROSVM, .quirks = CROSVM_QUIRKS | FAKE_DETACH_NEVER } },
};

const unsigned int fake_nr_personalities = ARRAY_SIZE(fake_personalities);

struct fake_config fake_default_config = { FAKE_DEFAULTS };

static char *personality;
module_param(personality, charp, 0444);
MODULE_PARM_DESC(personality, "The real device that is played where a case has no wishes");

/* Finds what a real device offers. */
const struct fake_config *fake_personality(const char *name)
{
	unsigned int i;

	for (i = 0; i < fake_nr_personalities; i++) {
		if (!strcmp(fake_personalities[i].name, name))
			return &fake_personalities[i].config;
	}
	return NULL;
}

static int fake_add_ram(struct resource *res, void *data)
{
	struct fake_viommu *fake = data;
	struct fake_region *next = fake->ram + fake->nr_ram;
	u64 first = res->start & PAGE_MASK, last = res->end | ~PAGE_MASK;

	/* The hypervisor's has what this guest's firmware keeps for itself, too. */
	if (fake->nr_ram && first <= next[-1].last + SZ_1M) {
		next[-1].last = max(next[-1].last, last);
	} else if (fake->nr_ram < FAKE_MAX_REGIONS) {
		next->first = first < SZ_1M ? 0 : first;
		next->last = last;
		fake->nr_ram++;
	}
	return 0;
}

/* Looks where this guest has RAM. May sleep. */
void fake_find_ram(struct fake_viommu *fake)
{
	walk_iomem_res_desc(IORES_DESC_NONE,
			    IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY, 0, -1,
			    fake, fake_add_ram);
}

bool fake_is_ram(const struct fake_viommu *fake, u64 first, u64 last)
{
	unsigned int i;

	for (i = 0; i < fake->nr_ram; i++) {
		if (first >= fake->ram[i].first && last <= fake->ram[i].last)
			return true;
	}
	return false;
}

static int __init fake_init(void)
{
	const struct fake_config *config;

	if (!personality)
		return 0;
	config = fake_personality(personality);
	if (!config)
		return -EINVAL;
	fake_default_config = *config;
	return 0;
}
module_init(fake_init);

static void __exit fake_exit(void)
{
}
module_exit(fake_exit);
