/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A fake virtio-iommu device (virtio 1.3, 5.13) for KUnit tests.
 *
 * The device lives in the kernel that it serves. It answers requests inside the
 * notification that announces them, so that tests are deterministic, and raises
 * interrupts with irq_work. It allocates nothing while it answers, so that
 * allocation failures hit only the driver.
 */
#ifndef _VIRTIO_IOMMU_FAKE_H
#define _VIRTIO_IOMMU_FAKE_H

#include <linux/completion.h>
#include <linux/irq_work.h>
#include <linux/list.h>
#include <linux/platform_device.h>
#include <linux/spinlock.h>
#include <linux/vhost_iotlb.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <linux/vringh.h>
#include <linux/workqueue.h>
#include <uapi/linux/virtio_iommu.h>

#include "quirks.h"

#define FAKE_REQUEST_VQ		0
#define FAKE_EVENT_VQ		1
#define FAKE_NR_VQS		2

#define FAKE_MAX_RING		1024
/* Longer than a driver waits that cannot sleep */
#define FAKE_SILENCE_MS		13000
#define FAKE_MAX_DOMAINS	64
#define FAKE_MAX_ENDPOINTS	32
#define FAKE_MAX_REGIONS	8
#define FAKE_MAX_MAPPINGS	16384
#define FAKE_MAX_RULES		8
#define FAKE_MAX_VIOLATIONS	8
#define FAKE_MAX_IDS		4
/* More than any request of the specification has for the device to read */
#define FAKE_MAX_READABLE	128
#define FAKE_MAX_SEGMENTS	4

/* For fake_rule.type: any request */
#define FAKE_ANY		0
/* For fields of a rule: what an honest device would do */
#define FAKE_HONEST		(-1)

/**
 * struct fake_config - what the device offers
 * @features: feature bits
 * @page_size_mask: config field of this name
 * @input_start: first address of the input range
 * @input_end: last address of the input range
 * @domain_start: first domain number
 * @domain_end: last domain number
 * @probe_size: config field of this name
 * @bypass: boot value of the global bypass
 * @ring_size: descriptors of the request queue; a power of two
 * @event_ring_size: descriptors of the event queue; a power of two
 * @quirks: what the device does otherwise than the specification's model
 *
 * Fields of features that are not offered read as garbage.
 */
struct fake_config {
	u64 features;
	u64 page_size_mask;
	u64 input_start;
	u64 input_end;
	u32 domain_start;
	u32 domain_end;
	u32 probe_size;
	u8 bypass;
	unsigned int ring_size;
	unsigned int event_ring_size;
	u32 quirks;
};

#define FAKE_FEATURES							\
	(BIT_ULL(VIRTIO_F_VERSION_1) |					\
	 BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) |				\
	 BIT_ULL(VIRTIO_RING_F_EVENT_IDX) |				\
	 BIT_ULL(VIRTIO_IOMMU_F_INPUT_RANGE) |				\
	 BIT_ULL(VIRTIO_IOMMU_F_DOMAIN_RANGE) |				\
	 BIT_ULL(VIRTIO_IOMMU_F_MAP_UNMAP) |				\
	 BIT_ULL(VIRTIO_IOMMU_F_PROBE) |				\
	 BIT_ULL(VIRTIO_IOMMU_F_MMIO) |					\
	 BIT_ULL(VIRTIO_IOMMU_F_BYPASS_CONFIG))

/* The initialisers of an ordinary device; more may follow. */
#define FAKE_DEFAULTS							\
	.features = FAKE_FEATURES, .page_size_mask = ~0xfffULL,		\
	.input_start = 0, .input_end = BIT_ULL(48) - 1,			\
	.domain_start = 1, .domain_end = 0x3ffffff, .probe_size = 512,	\
	.bypass = 1, .ring_size = 64, .event_ring_size = 8

extern struct fake_config fake_default_config;

/* A real device */
struct fake_personality {
	const char *name;
	struct fake_config config;
};

extern const struct fake_personality fake_personalities[];
extern const unsigned int fake_nr_personalities;

/* A reserved region; both ends belong to it. */
struct fake_region {
	u64 first;
	u64 last;
	u8 subtype;
};

/* The model: what the specification says that the device's state is. */
struct model_mapping {
	struct list_head node;
	u64 first;
	u64 last;
	u64 phys;
	u32 flags;
	bool old;
};

/* What is old was there when the driver reset the device. */
struct model_domain {
	u32 id;
	bool bypass;
	bool old;
	unsigned int endpoints;		/* 0: the domain does not exist */
	struct list_head mappings;	/* in ascending order */
};

struct model_endpoint {
	bool present;
	u8 denies;			/* FAKE_DENIES_*, if firmware alone knows it */
	bool probed;			/* since it was plugged in */
	bool touched;			/* by an ATTACH, since the driver's reset */
	u32 id;
	struct model_domain *domain;
	struct fake_region regions[FAKE_MAX_REGIONS];
	unsigned int nr_regions;
	const void *properties;		/* instead of what @regions make */
	size_t properties_len;
};

struct model {
	struct model_domain domains[FAKE_MAX_DOMAINS];
	struct model_endpoint endpoints[FAKE_MAX_ENDPOINTS];
	struct model_mapping *pool;
	struct list_head free;
	unsigned int nr_mappings;
	u8 bypass;
	u32 quirks;
};

/* A request that the driver made available. */
struct fake_request {
	struct list_head node;
	u16 head;
	bool outstanding;
	size_t readable;		/* bytes, all that there are */
	struct kvec segments[FAKE_MAX_SEGMENTS];
	struct vringh_kiov writable;
	size_t writable_len;
	u32 used;			/* length to report */
	union {
		u8 bytes[FAKE_MAX_READABLE];
		struct virtio_iommu_req_head req;
		struct virtio_iommu_req_attach attach;
		struct virtio_iommu_req_detach detach;
		struct virtio_iommu_req_map map;
		struct virtio_iommu_req_unmap unmap;
		struct virtio_iommu_req_probe probe;
	};
};

enum fake_completion {
	FAKE_ONCE,
	FAKE_NEVER,
	FAKE_HELD,		/* until fake_release_held() */
	FAKE_TWICE,
	FAKE_NOT_ASKED,		/* one that is not outstanding comes first */
	FAKE_OUT_OF_RANGE,	/* one that cannot exist comes first */
	FAKE_ANOTHER,		/* one that is held comes first, and stays held */
};

enum fake_end {
	FAKE_GOES_ON,
	FAKE_BREAKS,		/* as an unplugged PCI function: the virtqueues break */
	FAKE_NEEDS_RESET,	/* the device stops and says so */
	FAKE_STOPS,		/* the device stops and does not say so */
	FAKE_RESETS,		/* the device forgets all domains, and goes on */
};

struct fake_viommu;

/**
 * struct fake_rule - an answer that is not an honest device's
 * @type: VIRTIO_IOMMU_T_*, or FAKE_ANY
 * @endpoint: of this id only, or of a domain that has it; 0: of any
 * @skip: matching requests that are answered honestly first
 * @times: then, requests that this rule answers; 0: all
 * @no_effect: the request does not change the device's state
 * @status: status to answer with, or FAKE_HONEST
 * @write: bytes to write into the driver's buffer at most, or FAKE_HONEST
 * @used: length to report, or FAKE_HONEST
 * @completion: how often and when the request is completed
 * @before: what happens to the device before it looks at the request
 * @after: what happens to the device after it completed the request
 * @hook: called before the request is looked at; atomic, device locked
 * @arg: for @hook
 * @seen: matching requests so far
 * @hits: requests that this rule answered so far
 */
struct fake_rule {
	u8 type;
	u32 endpoint;
	unsigned int skip;
	unsigned int times;
	bool no_effect;
	int status;
	int write;
	s64 used;
	enum fake_completion completion;
	enum fake_end before;
	enum fake_end after;
	void (*hook)(struct fake_viommu *fake, struct fake_request *request,
		     void *arg);
	void *arg;
	unsigned int seen;
	unsigned int hits;
};

/* A rule that changes nothing: to be the base of all others. */
#define FAKE_RULE(_type)						\
	.type = (_type), .times = 1, .status = FAKE_HONEST,		\
	.write = FAKE_HONEST, .used = FAKE_HONEST

struct fake_vq {
	struct fake_viommu *fake;
	unsigned int index;
	struct virtqueue *vq;
	void *pages;
	size_t size;
	struct vring vring;
	struct vringh vringh;
	bool ready;
	struct irq_work irq;
};

/* Answers on one CPU. */
struct fake_worker {
	struct fake_viommu *fake;
	struct work_struct work;
};

/* How things were when the driver did something that decides about what comes after it. */
struct fake_moment {
	unsigned int times;
	unsigned int attached;		/* ids, by this driver */
	u8 bypass;
};

struct fake_stats {
	unsigned int requests[8];	/* by type; 0: unknown types */
	unsigned int notifications;
	unsigned int config_reads;
	unsigned int config_writes;
	unsigned int resets;
	unsigned int reattached;	/* ATTACHes to where the id was */
	unsigned int loose_unmaps;	/* of nothing, or of what has a hole */
	struct fake_moment reset;	/* of a device that was in use */
	struct fake_moment opened;	/* 1 was written to the bypass field */
	struct fake_moment closed;	/* 0 was */
	unsigned int refusals;	/* that no rule asked for; the last: */
	u8 refused_type;
	u8 refused_status;
};

struct fake_viommu {
	struct virtio_device vdev;
	struct completion released;
	struct platform_device *parent;
	struct fwnode_handle *fwnode;
	struct fake_config config;
	struct virtio_iommu_config space;
	u64 driver_features;
	char name[16];			/* outlives the device */
	bool registered;
	bool was_registered;
	bool saw_driver;		/* a driver took the device */
	u8 status;
	atomic_t generation;
	/* Called before each read of the configuration; may sleep. */
	void (*config_hook)(struct fake_viommu *fake, unsigned int offset);
	unsigned int hook_calls;
	bool refuse_features;
	bool refuse_vqs;
	bool notify_fails;
	bool dma_fails;			/* with VIRTIO_F_ACCESS_PLATFORM: no buffer can be mapped */
	struct delayed_work dma_works;	/* again */
	struct irq_work config_irq;
	struct fake_region ram[FAKE_MAX_REGIONS];
	unsigned int nr_ram;

	/* Below: protected by the lock. */
	spinlock_t lock;
	spinlock_t iotlb_lock;		/* vringh wants one */
	struct vhost_iotlb *iotlb;
	struct fake_vq vqs[FAKE_NR_VQS];
	struct model model;
	bool stopped;
	bool dead;			/* for good */
	/*
	 * So long after it does not answer any more, the device is unplugged: what may sleep
	 * waits until then. 0: it stays.
	 */
	unsigned int unplugged_after_ms;
	struct delayed_work unplug;
	bool reverse;			/* completes each batch backwards */
	bool lied;			/* did not do what it was asked for, once */
	struct fake_request *requests;	/* by head */
	struct list_head done;
	struct list_head held;
	struct fake_rule rules[FAKE_MAX_RULES];
	unsigned int nr_rules;
	struct fake_stats stats;
	unsigned int nr_violations;
	char violations[FAKE_MAX_VIOLATIONS][160];

	/* If set, another CPU answers, this many microseconds later. */
	bool async;
	unsigned int async_delay_us;
	/* Then, it answers one request at a time, this many milliseconds apart. */
	unsigned int async_pace_ms;
	wait_queue_head_t pace;		/* woken up when it is over */
	struct fake_worker __percpu *workers;
};

static inline struct fake_viommu *to_fake(struct virtio_device *vdev)
{
	return container_of(vdev, struct fake_viommu, vdev);
}

static inline bool fake_negotiated(const struct fake_viommu *fake,
				   unsigned int bit)
{
	return fake->driver_features & BIT_ULL(bit);
}

/* Whether what is attached to nothing reaches all memory. Without a feature, it is blocked. */
static inline bool fake_bypasses(const struct fake_viommu *fake)
{
	if (fake_negotiated(fake, VIRTIO_IOMMU_F_BYPASS_CONFIG))
		return fake->model.bypass;
	return fake_negotiated(fake, VIRTIO_IOMMU_F_BYPASS);
}

/* fake_viommu.c: the transport */
struct fake_viommu *fake_create(const struct fake_config *config);
void fake_machine_reset(struct fake_viommu *fake);
int fake_register(struct fake_viommu *fake);
void fake_unregister(struct fake_viommu *fake);
bool fake_destroy(struct fake_viommu *fake);
bool fake_bound(struct fake_viommu *fake);
const char *fake_name(struct fake_viommu *fake);
__printf(2, 3) void fake_violation(struct fake_viommu *fake,
				   const char *fmt, ...);

/* config.c */
void fake_get(struct virtio_device *vdev, unsigned int offset, void *buf,
	      unsigned int len);
void fake_set(struct virtio_device *vdev, unsigned int offset, const void *buf,
	      unsigned int len);
u32 fake_generation(struct virtio_device *vdev);
void fake_config_interrupt(struct irq_work *work);
void fake_check_features(struct fake_viommu *fake);
void fake_set_config(struct fake_viommu *fake, const struct fake_config *config);
void fake_config_changed(struct fake_viommu *fake);
void fake_note(struct fake_viommu *fake, struct fake_moment *moment);

/* personality.c: real devices, and where there is RAM */
const struct fake_config *fake_personality(const char *name);
void fake_find_ram(struct fake_viommu *fake);
bool fake_is_ram(const struct fake_viommu *fake, u64 first, u64 last);

/* ring.c: the device side of the virtqueues */
extern const struct virtio_map_ops fake_map_ops;
int fake_vq_create(struct fake_viommu *fake, unsigned int index,
		   const struct virtqueue_info *info, struct virtqueue **vq);
void fake_vq_destroy(struct fake_vq *fvq);
void fake_vq_sync(struct fake_viommu *fake);
unsigned int fake_answer_available(struct fake_viommu *fake, unsigned int max);
void fake_release_held(struct fake_viommu *fake, bool reverse);
unsigned int fake_event_buffers(struct fake_viommu *fake);
void fake_dma_works(struct work_struct *work);
int fake_event(struct fake_viommu *fake, const void *event, size_t len,
	       u32 used);
unsigned int fake_event_overrun(struct fake_viommu *fake, const void *event,
				size_t len);
int fake_event_hostile(struct fake_viommu *fake, const void *event, size_t len,
		       enum fake_completion completion);
void fake_end(struct fake_viommu *fake, enum fake_end end);
void fake_go_on(struct fake_viommu *fake);
void fake_unplug_late(struct work_struct *work);

/* request.c: looks at each byte of a request, and answers it */
void fake_answer(struct fake_viommu *fake, struct fake_request *request,
		 const struct fake_rule *rule);

/* judge.c: what may be a driver's fault, and what somebody else's */
void fake_check_mappings(struct fake_viommu *fake,
			 const struct model_endpoint *endpoint);
void fake_note_unmap(struct fake_viommu *fake, u32 domain_id, u64 first,
		     u64 last);
bool fake_may_detach(struct fake_viommu *fake, u32 domain_id, u32 endpoint_id);
void fake_refused(struct fake_viommu *fake, const struct fake_request *request,
		  u8 status);

/* script.c: rules */
struct fake_rule *fake_add_rule(struct fake_viommu *fake,
				const struct fake_rule *rule);
void fake_clear_rules(struct fake_viommu *fake);
struct fake_rule *fake_match(struct fake_viommu *fake,
			     const struct fake_request *request);
void fake_seen(struct fake_viommu *fake, struct fake_request *request, void *arg);
unsigned int fake_requests(struct fake_viommu *fake, u8 type);

/* endpoints.c: platform devices whose DMA goes through the fake device */
struct fake_endpoint {
	struct platform_device *pdev;
	unsigned int nr_ids;
	u32 ids[FAKE_MAX_IDS];
	u8 denies[FAKE_MAX_IDS];	/* FAKE_DENIES_* */
};

int fake_name_iommu(struct fake_viommu *fake, struct fake_endpoint *endpoint);
int fake_plug(struct fake_viommu *fake, struct fake_endpoint *endpoint);
void fake_unplug(struct fake_endpoint *endpoint);
struct device *fake_endpoint_dev(struct fake_endpoint *endpoint);
bool fake_endpoint_translated(struct fake_endpoint *endpoint);
int fake_group_type(struct fake_endpoint *endpoint, const char *type);

/* model.c */
int model_init(struct model *model);
void model_destroy(struct model *model);
void model_reset(struct model *model);
void model_forget(struct model *model);
struct model_endpoint *model_endpoint(struct model *model, u32 id);
struct model_endpoint *model_add_endpoint(struct model *model, u32 id);
bool model_is_reserved(const struct model_endpoint *endpoint, u64 first,
		       u64 last);
struct model_domain *model_domain(struct model *model, u32 id);
u8 model_attach(struct model *model, u32 domain, u32 endpoint, bool bypass);
u8 model_detach(struct model *model, u32 domain, u32 endpoint);
u8 model_map(struct model *model, u32 domain, u64 first, u64 last, u64 phys,
	     u32 flags);
u8 model_unmap(struct model *model, u32 domain, u64 first, u64 last);

#endif
