// SPDX-License-Identifier: GPL-2.0
/*
 * The device side of the virtqueues.
 *
 * The driver puts physical addresses into descriptors, so vringh goes through an
 * IOTLB that maps everything to itself.
 */
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/smp.h>

#include "fake.h"

/* Buffers are mapped for DMA to where they are, or not at all. */
static dma_addr_t fake_map_page(union virtio_map map, struct page *page,
				unsigned long offset, size_t size,
				enum dma_data_direction dir, unsigned long attrs)
{
	struct device *parent = map.dma_dev;
	struct fake_viommu *fake = dev_get_drvdata(parent);

	if (READ_ONCE(fake->dma_fails))
		return DMA_MAPPING_ERROR;
	return page_to_phys(page) + offset;
}

static void fake_unmap_page(union virtio_map map, dma_addr_t addr, size_t size,
			    enum dma_data_direction dir, unsigned long attrs)
{
}

static void fake_dma_sync(union virtio_map map, dma_addr_t addr, size_t size,
			  enum dma_data_direction dir)
{
}

static bool fake_need_sync(union virtio_map map, dma_addr_t addr)
{
	return false;
}

static int fake_mapping_error(union virtio_map map, dma_addr_t addr)
{
	return addr == DMA_MAPPING_ERROR ? -ENOMEM : 0;
}

static size_t fake_max_mapping_size(union virtio_map map)
{
	return SIZE_MAX;
}

/* The rings themselves are the fake device's own. */
const struct virtio_map_ops fake_map_ops = {
	.map_page = fake_map_page,
	.unmap_page = fake_unmap_page,
	.sync_single_for_cpu = fake_dma_sync,
	.sync_single_for_device = fake_dma_sync,
	.need_sync = fake_need_sync,
	.mapping_error = fake_mapping_error,
	.max_mapping_size = fake_max_mapping_size,
};

void fake_dma_works(struct work_struct *work)
{
	struct delayed_work *delayed = to_delayed_work(work);

	WRITE_ONCE(container_of(delayed, struct fake_viommu, dma_works)->dma_fails,
		   false);
}

static void fake_vq_interrupt(struct irq_work *work)
{
	struct fake_vq *fvq = container_of(work, struct fake_vq, irq);

	vring_interrupt(0, fvq->vq);
}

static bool fake_vq_notify(struct virtqueue *vq)
{
	struct fake_vq *fvq = vq->priv;
	struct fake_viommu *fake = fvq->fake;
	unsigned long flags;
	unsigned int cpu;

	spin_lock_irqsave(&fake->lock, flags);
	fake->stats.notifications++;
	if (fake->status & VIRTIO_CONFIG_S_FEATURES_OK &&
	    !(fake->status & VIRTIO_CONFIG_S_DRIVER_OK))
		fake_violation(fake, "queue %u: notified before DRIVER_OK",
			       fvq->index);
	spin_unlock_irqrestore(&fake->lock, flags);

	if (fake->notify_fails)
		return false;
	if (fvq->index != FAKE_REQUEST_VQ)
		return true;
	if (!fake->async) {
		fake_answer_available(fake, UINT_MAX);
		return true;
	}
	/*
	 * The notifier may wait with interrupts off: not on its CPU. A work item
	 * stays with the CPU that still runs it, hence one for each CPU.
	 */
	cpu = cpumask_any_but(cpu_online_mask, raw_smp_processor_id());
	if (cpu >= nr_cpu_ids)
		cpu = raw_smp_processor_id();
	queue_work_on(cpu, system_highpri_wq,
		      &per_cpu_ptr(fake->workers, cpu)->work);
	return true;
}

int fake_vq_create(struct fake_viommu *fake, unsigned int index,
		   const struct virtqueue_info *info, struct virtqueue **vq)
{
	struct fake_vq *fvq = &fake->vqs[index];
	unsigned int num = index == FAKE_REQUEST_VQ ?
		fake->config.ring_size : fake->config.event_ring_size;
	int ret;

	if (fvq->vq) {
		fake_violation(fake, "queue %u is set up twice", index);
		return -EBUSY;
	}
	fvq->size = vring_size(num, SMP_CACHE_BYTES);
	fvq->pages = alloc_pages_exact(fvq->size, GFP_KERNEL | __GFP_ZERO);
	if (!fvq->pages)
		return -ENOMEM;
	fvq->vq = vring_new_virtqueue(index, num, SMP_CACHE_BYTES, &fake->vdev,
				      true, info->ctx, fvq->pages,
				      fake_vq_notify, info->callback,
				      info->name);
	if (!fvq->vq) {
		free_pages_exact(fvq->pages, fvq->size);
		return -ENOMEM;
	}
	fvq->vq->priv = fvq;
	fvq->vq->num_max = num;
	init_irq_work(&fvq->irq, fake_vq_interrupt);

	vring_init(&fvq->vring, num, fvq->pages, SMP_CACHE_BYTES);
	ret = vringh_init_iotlb(&fvq->vringh, fake->vdev.features, num, true,
				(void *)virt_to_phys(fvq->vring.desc),
				(void *)virt_to_phys(fvq->vring.avail),
				(void *)virt_to_phys(fvq->vring.used));
	if (ret) {
		fake_vq_destroy(fvq);
		return ret;
	}
	vringh_set_iotlb(&fvq->vringh, fake->iotlb, &fake->iotlb_lock);
	fvq->ready = true;
	*vq = fvq->vq;
	return 0;
}

void fake_vq_destroy(struct fake_vq *fvq)
{
	unsigned long flags;

	if (!fvq->vq)
		return;
	spin_lock_irqsave(&fvq->fake->lock, flags);
	fvq->ready = false;
	spin_unlock_irqrestore(&fvq->fake->lock, flags);
	irq_work_sync(&fvq->irq);
	vring_del_virtqueue(fvq->vq);
	fvq->vq = NULL;
	free_pages_exact(fvq->pages, fvq->size);
}

/* Waits until no callback is running. */
void fake_vq_sync(struct fake_viommu *fake)
{
	unsigned int i;

	for (i = 0; i < FAKE_NR_VQS; i++) {
		if (fake->vqs[i].vq)
			irq_work_sync(&fake->vqs[i].irq);
	}
}

/* Tells the driver, with VIRTIO_F_EVENT_IDX, from where on to notify. */
static void fake_vq_enable(struct fake_viommu *fake, struct fake_vq *fvq)
{
	WRITE_ONCE(vring_avail_event(&fvq->vring),
		   cpu_to_virtio16(&fake->vdev, fvq->vringh.last_avail_idx));
	virtio_mb(true);
}

static u16 fake_vq_available(struct fake_viommu *fake, struct fake_vq *fvq)
{
	__virtio16 idx = READ_ONCE(fvq->vring.avail->idx);

	return virtio16_to_cpu(&fake->vdev, idx) - fvq->vringh.last_avail_idx;
}

/* Takes the next buffer. Returns NULL if there is none. */
static struct fake_request *fake_vq_pop(struct fake_viommu *fake,
					struct fake_vq *fvq)
{
	struct kvec segments[FAKE_MAX_SEGMENTS];
	struct vringh_kiov readable, writable;
	struct kvec out[FAKE_MAX_SEGMENTS];
	struct fake_request *request;
	u16 head;
	int ret;

	vringh_kiov_init(&readable, segments, ARRAY_SIZE(segments));
	vringh_kiov_init(&writable, out, ARRAY_SIZE(out));
	ret = vringh_getdesc_iotlb(&fvq->vringh, &readable, &writable, &head,
				   GFP_ATOMIC);
	if (ret <= 0) {
		if (ret < 0)
			fake_violation(fake, "queue %u: bad descriptor: %d",
				       fvq->index, ret);
		return NULL;
	}

	request = &fake->requests[head];
	if (request->outstanding)
		fake_violation(fake, "queue %u: head %u is used twice",
			       fvq->index, head);
	list_del_init(&request->node);
	request->outstanding = true;
	request->head = head;
	request->readable = vringh_kiov_length(&readable);
	request->writable_len = vringh_kiov_length(&writable);
	memset(request->bytes, 0, sizeof(request->bytes));
	vringh_iov_pull_iotlb(&fvq->vringh, &readable, request->bytes,
			      min(request->readable, sizeof(request->bytes)));
	if (readable.max_num & VRINGH_IOV_ALLOCATED ||
	    writable.max_num & VRINGH_IOV_ALLOCATED)
		fake_violation(fake, "queue %u: more than %u segments",
			       fvq->index, FAKE_MAX_SEGMENTS);
	vringh_kiov_init(&request->writable, request->segments,
			 ARRAY_SIZE(request->segments));
	request->writable.used = min(writable.used, FAKE_MAX_SEGMENTS);
	memcpy(request->segments, writable.iov, sizeof(request->segments));
	vringh_kiov_cleanup(&readable);
	vringh_kiov_cleanup(&writable);
	return request;
}

static void fake_complete(struct fake_viommu *fake, struct list_head *list)
{
	struct vringh *vringh = &fake->vqs[FAKE_REQUEST_VQ].vringh;

	while (!list_empty(list)) {
		struct fake_request *request = fake->reverse ?
			list_last_entry(list, struct fake_request, node) :
			list_first_entry(list, struct fake_request, node);

		list_del_init(&request->node);
		request->outstanding = false;
		vringh_complete_iotlb(vringh, request->head, request->used);
	}
}

static void fake_interrupt(struct fake_vq *fvq)
{
	if (vringh_need_notify_iotlb(&fvq->vringh) > 0)
		irq_work_queue(&fvq->irq);
}

/* A head that is not outstanding, or @head if all are. */
static u16 fake_idle_head(struct fake_viommu *fake, u16 head)
{
	unsigned int num = fake->vqs[FAKE_REQUEST_VQ].vringh.vring.num;
	unsigned int i;

	for (i = 0; i < num; i++) {
		u16 candidate = (head + num / 2 + i) % num;

		if (candidate != head && !fake->requests[candidate].outstanding)
			return candidate;
	}
	return head;
}

/* Completes the request that is held the longest, as if it had not been. */
static void fake_complete_held(struct fake_viommu *fake)
{
	struct vringh *vringh = &fake->vqs[FAKE_REQUEST_VQ].vringh;
	struct fake_request *held;

	held = list_first_entry_or_null(&fake->held, struct fake_request, node);
	if (!held)
		return;
	held->outstanding = false;
	vringh_complete_iotlb(vringh, held->head, held->used);
}

/* It does not answer any more. */
static void fake_is_silent(struct fake_viommu *fake)
{
	if (fake->unplugged_after_ms)
		queue_delayed_work(system_dfl_wq, &fake->unplug,
				   msecs_to_jiffies(fake->unplugged_after_ms));
}

/* What happens to the device. It is locked. */
static void __fake_end(struct fake_viommu *fake, enum fake_end end)
{
	unsigned int i;

	if (end == FAKE_GOES_ON)
		return;
	if (end == FAKE_RESETS) {
		model_forget(&fake->model);
		return;
	}
	fake->stopped = true;
	if (end == FAKE_BREAKS) {
		for (i = 0; i < FAKE_NR_VQS; i++) {
			if (fake->vqs[i].ready)
				__virtqueue_break(fake->vqs[i].vq);
		}
		return;
	}
	fake_is_silent(fake);
	if (end == FAKE_NEEDS_RESET) {
		fake->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
		irq_work_queue(&fake->config_irq);
	}
}

void fake_end(struct fake_viommu *fake, enum fake_end end)
{
	unsigned long flags;

	spin_lock_irqsave(&fake->lock, flags);
	__fake_end(fake, end);
	spin_unlock_irqrestore(&fake->lock, flags);
}

void fake_unplug_late(struct work_struct *work)
{
	struct delayed_work *delayed = to_delayed_work(work);

	fake_end(container_of(delayed, struct fake_viommu, unplug), FAKE_BREAKS);
}

/* The device has stopped, and looks at its ring again. */
void fake_go_on(struct fake_viommu *fake)
{
	unsigned long flags;

	spin_lock_irqsave(&fake->lock, flags);
	fake->stopped = false;
	spin_unlock_irqrestore(&fake->lock, flags);
	fake_answer_available(fake, UINT_MAX);
}

/* Answers one request and decides about its completion. The device is locked. */
static void fake_take(struct fake_viommu *fake, struct fake_request *request)
{
	struct vringh *vringh = &fake->vqs[FAKE_REQUEST_VQ].vringh;
	u8 type = request->req.type;
	struct fake_rule *rule = fake_match(fake, request);

	fake->stats.requests[type < ARRAY_SIZE(fake->stats.requests) ? type :
			     0]++;
	if (rule && rule->hook)
		rule->hook(fake, request, rule->arg);
	if (rule && rule->before != FAKE_GOES_ON) {
		__fake_end(fake, rule->before);
		if (fake->stopped)
			return;
	}
	fake_answer(fake, request, rule);

	switch (rule ? rule->completion : FAKE_ONCE) {
	case FAKE_NEVER:
		fake_is_silent(fake);
		break;
	case FAKE_HELD:
		list_add_tail(&request->node, &fake->held);
		break;
	case FAKE_NOT_ASKED:
		vringh_complete_iotlb(vringh, fake_idle_head(fake, request->head),
				      request->used);
		list_add_tail(&request->node, &fake->done);
		break;
	case FAKE_OUT_OF_RANGE:
		vringh_complete_iotlb(vringh, U16_MAX, request->used);
		list_add_tail(&request->node, &fake->done);
		break;
	case FAKE_ANOTHER:
		fake_complete_held(fake);
		list_add_tail(&request->node, &fake->done);
		break;
	case FAKE_TWICE:
		vringh_complete_iotlb(vringh, request->head, request->used);
		fallthrough;
	case FAKE_ONCE:
		list_add_tail(&request->node, &fake->done);
		break;
	}
	if (rule && rule->after != FAKE_GOES_ON) {
		fake_complete(fake, &fake->done);
		__fake_end(fake, rule->after);
	}
}

/* Answers what is available, up to @max requests. Returns how many. Any context. */
unsigned int fake_answer_available(struct fake_viommu *fake, unsigned int max)
{
	struct fake_vq *fvq = &fake->vqs[FAKE_REQUEST_VQ];
	unsigned int batch = 0;
	unsigned long flags;

	spin_lock_irqsave(&fake->lock, flags);
	while (fvq->ready && !fake->stopped) {
		struct fake_request *request = NULL;

		if (batch < max)
			request = fake_vq_pop(fake, fvq);
		if (request) {
			fake_take(fake, request);
			batch++;
			continue;
		}
		fake_complete(fake, &fake->done);
		fake_vq_enable(fake, fvq);
		if (batch == max || !fake_vq_available(fake, fvq))
			break;
	}
	if (batch && fvq->ready)
		fake_interrupt(fvq);
	spin_unlock_irqrestore(&fake->lock, flags);
	return batch;
}

/* Completes the requests that rules hold. */
void fake_release_held(struct fake_viommu *fake, bool reverse)
{
	bool before;
	unsigned long flags;

	spin_lock_irqsave(&fake->lock, flags);
	before = fake->reverse;
	fake->reverse = reverse;
	if (fake->vqs[FAKE_REQUEST_VQ].ready) {
		fake_complete(fake, &fake->held);
		fake_interrupt(&fake->vqs[FAKE_REQUEST_VQ]);
	}
	fake->reverse = before;
	spin_unlock_irqrestore(&fake->lock, flags);
}

/* How many events the driver is ready to take. */
unsigned int fake_event_buffers(struct fake_viommu *fake)
{
	struct fake_vq *fvq = &fake->vqs[FAKE_EVENT_VQ];
	unsigned int available = 0;
	unsigned long flags;

	spin_lock_irqsave(&fake->lock, flags);
	if (fvq->ready)
		available = fake_vq_available(fake, fvq);
	spin_unlock_irqrestore(&fake->lock, flags);
	return available;
}

/* Puts an event into the next buffer. The device is locked. */
static int __fake_event(struct fake_viommu *fake, const void *event, size_t len,
			u32 used)
{
	struct fake_vq *fvq = &fake->vqs[FAKE_EVENT_VQ];
	struct kvec segments[FAKE_MAX_SEGMENTS];
	struct vringh_kiov writable;
	size_t room;
	u16 head;
	int ret;

	if (!fvq->ready)
		return -ENODEV;
	vringh_kiov_init(&writable, segments, ARRAY_SIZE(segments));
	ret = vringh_getdesc_iotlb(&fvq->vringh, NULL, &writable, &head,
				   GFP_ATOMIC);
	if (ret < 0)
		return ret;
	if (!ret)
		return -ENOBUFS;
	room = vringh_kiov_length(&writable);
	if (room < sizeof(struct virtio_iommu_fault))
		fake_violation(fake, "event buffer of %zu bytes", room);
	vringh_iov_push_iotlb(&fvq->vringh, &writable, event, min(len, room));
	vringh_complete_iotlb(&fvq->vringh, head, used);
	fake_vq_enable(fake, fvq);
	return 0;
}

/* Sends an event of @len bytes, with @used as its length, and waits for the interrupt. */
int fake_event(struct fake_viommu *fake, const void *event, size_t len,
	       u32 used)
{
	unsigned long flags;
	int ret;

	spin_lock_irqsave(&fake->lock, flags);
	ret = __fake_event(fake, event, len, used);
	if (!ret)
		fake_interrupt(&fake->vqs[FAKE_EVENT_VQ]);
	spin_unlock_irqrestore(&fake->lock, flags);
	fake_vq_sync(fake);
	return ret;
}

/*
 * Sends an event, and completes its buffer as no device does: twice, without having
 * taken it from the ring, or with the number of a buffer that cannot exist.
 */
int fake_event_hostile(struct fake_viommu *fake, const void *event, size_t len,
		       enum fake_completion completion)
{
	struct fake_vq *fvq = &fake->vqs[FAKE_EVENT_VQ];
	int ret = -ENOBUFS;
	unsigned long flags;
	unsigned int next;
	u16 head;

	spin_lock_irqsave(&fake->lock, flags);
	if (fvq->ready && fake_vq_available(fake, fvq)) {
		next = fvq->vringh.last_avail_idx % fvq->vring.num;
		head = virtio16_to_cpu(&fake->vdev,
				       READ_ONCE(fvq->vring.avail->ring[next]));
		if (completion == FAKE_OUT_OF_RANGE)
			head = U16_MAX;
		ret = 0;
		if (completion == FAKE_TWICE)
			ret = __fake_event(fake, event, len, len);
		vringh_complete_iotlb(&fvq->vringh, head, len);
		fake_interrupt(fvq);
	}
	spin_unlock_irqrestore(&fake->lock, flags);
	fake_vq_sync(fake);
	return ret;
}

/*
 * Sends an event again and again, until there is no buffer for it, before the
 * one interrupt for all of them. Returns how many were sent.
 */
unsigned int fake_event_overrun(struct fake_viommu *fake, const void *event,
				size_t len)
{
	unsigned long flags;
	unsigned int nr = 0;

	spin_lock_irqsave(&fake->lock, flags);
	while (!__fake_event(fake, event, len, len))
		nr++;
	if (nr)
		fake_interrupt(&fake->vqs[FAKE_EVENT_VQ]);
	spin_unlock_irqrestore(&fake->lock, flags);
	fake_vq_sync(fake);
	return nr;
}
