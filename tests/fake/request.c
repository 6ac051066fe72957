// SPDX-License-Identifier: GPL-2.0
/*
 * Requests: each byte that the driver sends is looked at. What the specification
 * forbids the driver is recorded as a violation, and answered as a device would.
 */
#include <linux/align.h>

#include "fake.h"

static size_t fake_tail_offset(struct fake_viommu *fake, u8 type)
{
	return type == VIRTIO_IOMMU_T_PROBE ? fake->config.probe_size : 0;
}

/* Checks the lengths of both parts. Returns false if the request is unusable. */
static bool fake_check_lengths(struct fake_viommu *fake,
			       const struct fake_request *request,
			       const char *name, size_t readable)
{
	size_t writable = fake_tail_offset(fake, request->req.type) +
			  sizeof(struct virtio_iommu_req_tail);

	if (request->readable != readable)
		fake_violation(fake, "%s: %zu bytes to read instead of %zu",
			       name, request->readable, readable);
	if (request->writable_len != writable)
		fake_violation(fake, "%s: %zu bytes to write instead of %zu",
			       name, request->writable_len, writable);
	return request->readable >= readable &&
	       request->writable_len >= writable;
}

static bool fake_check_zero(struct fake_viommu *fake, const char *name,
			    const u8 *bytes, size_t len)
{
	if (!memchr_inv(bytes, 0, len))
		return true;
	fake_violation(fake, "%s: reserved bytes are %*ph", name, (int)len,
		       bytes);
	return false;
}

static bool fake_check_domain(struct fake_viommu *fake, const char *name, u32 id)
{
	if (!fake_negotiated(fake, VIRTIO_IOMMU_F_DOMAIN_RANGE) ||
	    (id >= fake->config.domain_start && id <= fake->config.domain_end))
		return true;
	fake_violation(fake, "%s: domain %u is not in %u-%u", name, id,
		       fake->config.domain_start, fake->config.domain_end);
	return false;
}

static bool fake_check_feature(struct fake_viommu *fake, const char *name,
			       unsigned int bit)
{
	if (fake_negotiated(fake, bit))
		return true;
	fake_violation(fake, "%s was not negotiated", name);
	return false;
}

/* A driver does not map in a bypass domain, unless somebody else has made it one. */
static void fake_check_no_bypass(struct fake_viommu *fake, const char *name,
				 u32 id)
{
	struct model_domain *domain = model_domain(&fake->model, id);

	if (domain && domain->bypass && !domain->old)
		fake_violation(fake, "%s: %u is a bypass domain", name, id);
}

/* Checks a range of IO addresses. Returns a status. */
static u8 fake_check_range(struct fake_viommu *fake, const char *name,
			   u64 first, u64 last)
{
	u64 granule = fake->config.page_size_mask &
		      -fake->config.page_size_mask;

	if (first > last) {
		fake_violation(fake, "%s: %#llx-%#llx is reversed", name, first,
			       last);
		return VIRTIO_IOMMU_S_INVAL;
	}
	if (fake_negotiated(fake, VIRTIO_IOMMU_F_INPUT_RANGE) &&
	    (first < fake->config.input_start ||
	     last > fake->config.input_end)) {
		fake_violation(fake, "%s: %#llx-%#llx is not in %#llx-%#llx",
			       name, first, last, fake->config.input_start,
			       fake->config.input_end);
		return VIRTIO_IOMMU_S_RANGE;
	}
	if (!IS_ALIGNED(first, granule) || !IS_ALIGNED(last + 1, granule)) {
		fake_violation(fake, "%s: %#llx-%#llx is not made of granules",
			       name, first, last);
		return VIRTIO_IOMMU_S_RANGE;
	}
	return VIRTIO_IOMMU_S_OK;
}

/* Whether a driver is to PROBE an endpoint before it attaches it. */
static bool fake_asks_first(const struct fake_viommu *fake)
{
	return fake_negotiated(fake, VIRTIO_IOMMU_F_PROBE) &&
	       fake->config.probe_size;
}

static u8 fake_attach(struct fake_viommu *fake, struct fake_request *request,
		      bool effect)
{
	const struct virtio_iommu_req_attach *attach = &request->attach;
	struct model_endpoint *endpoint;
	struct model_domain *existing;
	u32 domain, flags;
	u8 status;

	if (!fake_check_lengths(fake, request, "ATTACH",
				offsetof(typeof(*attach), tail)))
		return VIRTIO_IOMMU_S_INVAL;
	if (!fake_check_zero(fake, "ATTACH", attach->reserved,
			     sizeof(attach->reserved)))
		return VIRTIO_IOMMU_S_INVAL;

	domain = le32_to_cpu(attach->domain);
	flags = le32_to_cpu(attach->flags);
	if (!fake_check_domain(fake, "ATTACH", domain))
		return VIRTIO_IOMMU_S_RANGE;
	if (flags & ~VIRTIO_IOMMU_ATTACH_F_BYPASS) {
		fake_violation(fake, "ATTACH: unknown flags %#x", flags);
		return VIRTIO_IOMMU_S_INVAL;
	}
	if (flags && !fake_check_feature(fake, "ATTACH: bypass",
					 VIRTIO_IOMMU_F_BYPASS_CONFIG))
		return VIRTIO_IOMMU_S_INVAL;
	existing = model_domain(&fake->model, domain);
	if (existing && !existing->old && existing->bypass != flags)
		fake_violation(fake, "ATTACH: domain %u is of the other kind",
			       domain);
	endpoint = model_endpoint(&fake->model, le32_to_cpu(attach->endpoint));
	if (!endpoint)
		fake_violation(fake, "ATTACH: no endpoint %u",
			       le32_to_cpu(attach->endpoint));
	else if (fake_asks_first(fake) && !endpoint->probed)
		fake_violation(fake, "ATTACH: no PROBE of %u came before",
			       endpoint->id);
	if (!effect)
		return VIRTIO_IOMMU_S_OK;
	if (endpoint && endpoint->domain && endpoint->domain->id == domain)
		fake->stats.reattached++;
	status = model_attach(&fake->model, domain,
			      le32_to_cpu(attach->endpoint), flags);
	if (endpoint && !status) {
		endpoint->touched = true;
		fake_check_mappings(fake, endpoint);
	}
	return status;
}

static u8 fake_detach(struct fake_viommu *fake, struct fake_request *request,
		      bool effect)
{
	const struct virtio_iommu_req_detach *detach = &request->detach;
	u32 domain, endpoint;
	u8 status;

	if (!fake_check_lengths(fake, request, "DETACH",
				offsetof(typeof(*detach), tail)))
		return VIRTIO_IOMMU_S_INVAL;
	if (!fake_check_zero(fake, "DETACH", detach->reserved,
			     sizeof(detach->reserved)))
		return VIRTIO_IOMMU_S_INVAL;
	if (!fake_check_domain(fake, "DETACH", le32_to_cpu(detach->domain)))
		return VIRTIO_IOMMU_S_RANGE;
	if (!effect)
		return VIRTIO_IOMMU_S_OK;

	domain = le32_to_cpu(detach->domain);
	endpoint = le32_to_cpu(detach->endpoint);
	status = model_detach(&fake->model, domain, endpoint);
	if (status && status != VIRTIO_IOMMU_S_UNSUPP &&
	    !fake_may_detach(fake, domain, endpoint))
		fake_violation(fake, "DETACH: endpoint %u is not in domain %u",
			       endpoint, domain);
	return status;
}

/* "The driver SHOULD NOT map" what is reserved for an endpoint of the domain. */
static bool fake_overlaps_reserved(struct fake_viommu *fake, u32 domain,
				   u64 first, u64 last)
{
	unsigned int i;

	for (i = 0; i < FAKE_MAX_ENDPOINTS; i++) {
		struct model_endpoint *endpoint = &fake->model.endpoints[i];

		if (endpoint->domain && endpoint->domain->id == domain &&
		    model_is_reserved(endpoint, first, last))
			return true;
	}
	return false;
}

static u8 fake_map(struct fake_viommu *fake, struct fake_request *request,
		   bool effect)
{
	const struct virtio_iommu_req_map *map = &request->map;
	u32 known = VIRTIO_IOMMU_MAP_F_READ | VIRTIO_IOMMU_MAP_F_WRITE;
	u64 first, last, phys;
	u32 domain, flags;
	u8 status;

	if (!fake_check_lengths(fake, request, "MAP",
				offsetof(typeof(*map), tail)))
		return VIRTIO_IOMMU_S_INVAL;

	domain = le32_to_cpu(map->domain);
	first = le64_to_cpu(map->virt_start);
	last = le64_to_cpu(map->virt_end);
	flags = le32_to_cpu(map->flags);
	if (fake_negotiated(fake, VIRTIO_IOMMU_F_MMIO))
		known |= VIRTIO_IOMMU_MAP_F_MMIO;

	if (!fake_check_feature(fake, "MAP", VIRTIO_IOMMU_F_MAP_UNMAP))
		return VIRTIO_IOMMU_S_UNSUPP;
	if (!fake_check_domain(fake, "MAP", domain))
		return VIRTIO_IOMMU_S_RANGE;
	if (first == last) {
		fake_violation(fake, "MAP: %#llx alone", first);
		return VIRTIO_IOMMU_S_INVAL;
	}
	status = fake_check_range(fake, "MAP", first, last);
	if (status)
		return status;
	fake_check_no_bypass(fake, "MAP", domain);
	if (!IS_ALIGNED(le64_to_cpu(map->phys_start),
			fake->config.page_size_mask &
			-fake->config.page_size_mask)) {
		fake_violation(fake, "MAP: unaligned physical address %#llx",
			       le64_to_cpu(map->phys_start));
		return VIRTIO_IOMMU_S_RANGE;
	}
	if (flags & ~known) {
		fake_violation(fake, "MAP: unknown flags %#x", flags);
		return VIRTIO_IOMMU_S_INVAL;
	}
	if (fake_overlaps_reserved(fake, domain, first, last)) {
		fake_violation(fake, "MAP: %#llx-%#llx has reserved addresses",
			       first, last);
		return VIRTIO_IOMMU_S_INVAL;
	}
	if (!effect)
		return VIRTIO_IOMMU_S_OK;
	phys = le64_to_cpu(map->phys_start);
	if (fake->config.quirks & FAKE_RAM_ONLY &&
	    !fake_is_ram(fake, phys, phys + (last - first)))
		return VIRTIO_IOMMU_S_FAULT;
	return model_map(&fake->model, domain, first, last,
			 le64_to_cpu(map->phys_start), flags);
}

static u8 fake_unmap(struct fake_viommu *fake, struct fake_request *request,
		     bool effect)
{
	const struct virtio_iommu_req_unmap *unmap = &request->unmap;
	u64 first, last;
	u32 domain;
	u8 status;

	if (!fake_check_lengths(fake, request, "UNMAP",
				offsetof(typeof(*unmap), tail)))
		return VIRTIO_IOMMU_S_INVAL;
	if (!fake_check_zero(fake, "UNMAP", unmap->reserved,
			     sizeof(unmap->reserved)))
		return VIRTIO_IOMMU_S_INVAL;

	domain = le32_to_cpu(unmap->domain);
	first = le64_to_cpu(unmap->virt_start);
	last = le64_to_cpu(unmap->virt_end);
	if (!fake_check_feature(fake, "UNMAP", VIRTIO_IOMMU_F_MAP_UNMAP))
		return VIRTIO_IOMMU_S_UNSUPP;
	if (!fake_check_domain(fake, "UNMAP", domain))
		return VIRTIO_IOMMU_S_RANGE;
	status = fake_check_range(fake, "UNMAP", first, last);
	if (status)
		return status;
	fake_check_no_bypass(fake, "UNMAP", domain);
	if (!effect)
		return VIRTIO_IOMMU_S_OK;

	fake_note_unmap(fake, domain, first, last);
	status = model_unmap(&fake->model, domain, first, last);
	if (status == VIRTIO_IOMMU_S_RANGE)
		fake_violation(fake, "UNMAP: %#llx-%#llx splits a mapping",
			       first, last);
	return status;
}

static size_t fake_push(struct fake_viommu *fake, struct fake_request *request,
			const void *bytes, size_t len)
{
	struct vringh *vringh = &fake->vqs[FAKE_REQUEST_VQ].vringh;
	ssize_t done;

	done = vringh_iov_push_iotlb(vringh, &request->writable, bytes, len);
	return done < 0 ? 0 : done;
}

/* The properties of an endpoint as an honest device writes them. */
static size_t fake_push_regions(struct fake_viommu *fake,
				struct fake_request *request,
				const struct model_endpoint *endpoint,
				size_t room)
{
	size_t done = 0;
	unsigned int i;

	for (i = 0; i < endpoint->nr_regions; i++) {
		const struct fake_region *region = &endpoint->regions[i];
		struct virtio_iommu_probe_resv_mem mem = {
			.head.type = cpu_to_le16(VIRTIO_IOMMU_PROBE_T_RESV_MEM),
			.head.length = cpu_to_le16(sizeof(mem) -
						   sizeof(mem.head)),
			.subtype = region->subtype,
			.start = cpu_to_le64(region->first),
			.end = cpu_to_le64(region->last),
		};

		if (fake->config.quirks & FAKE_FILLS_RESERVED)
			memset(mem.reserved, 0xff, sizeof(mem.reserved));
		if (done + sizeof(mem) > room)
			break;
		done += fake_push(fake, request, &mem, sizeof(mem));
	}
	return done;
}

static u8 fake_probe(struct fake_viommu *fake,
		     const struct fake_request *request)
{
	const struct virtio_iommu_req_probe *probe = &request->probe;
	struct model_endpoint *endpoint;

	if (!fake_check_lengths(fake, request, "PROBE", sizeof(*probe)))
		return VIRTIO_IOMMU_S_INVAL;
	if (!fake_check_zero(fake, "PROBE", probe->reserved,
			     sizeof(probe->reserved)))
		return VIRTIO_IOMMU_S_INVAL;
	if (!fake_check_feature(fake, "PROBE", VIRTIO_IOMMU_F_PROBE))
		return VIRTIO_IOMMU_S_UNSUPP;
	endpoint = model_endpoint(&fake->model, le32_to_cpu(probe->endpoint));
	if (endpoint)
		endpoint->probed = true;
	else
		fake_violation(fake, "PROBE: no endpoint %u",
			       le32_to_cpu(probe->endpoint));
	if ((!endpoint || endpoint->denies & FAKE_DENIES_PROBE) &&
	    !(fake->config.quirks & FAKE_ANY_ID))
		return VIRTIO_IOMMU_S_NOENT;
	return VIRTIO_IOMMU_S_OK;
}

/* Writes the properties of an endpoint. Returns the number of bytes. */
static size_t fake_push_properties(struct fake_viommu *fake,
				   struct fake_request *request)
{
	static const u8 zero[64];
	size_t room = fake->config.probe_size;
	struct model_endpoint *endpoint;
	size_t done = 0;

	endpoint = model_endpoint(&fake->model,
				  le32_to_cpu(request->probe.endpoint));
	if (endpoint && endpoint->properties)
		done = fake_push(fake, request, endpoint->properties,
				 min(endpoint->properties_len, room));
	else if (endpoint)
		done = fake_push_regions(fake, request, endpoint, room);
	while (done < room) {
		size_t len = fake_push(fake, request, zero,
				       min(room - done, sizeof(zero)));

		if (!len)
			break;
		done += len;
	}
	return done;
}

/* Answers one request, honestly or as @rule says. The device is locked. */
void fake_answer(struct fake_viommu *fake, struct fake_request *request,
		 const struct fake_rule *rule)
{
	bool effect = !rule || !rule->no_effect;
	struct virtio_iommu_req_tail tail = {};
	size_t offset, done = 0, limit;
	bool mute;

	fake->lied |= !effect;
	if (fake->config.quirks & FAKE_FILLS_RESERVED)
		memset(tail.reserved, 0xff, sizeof(tail.reserved));
	if (!(fake->status & VIRTIO_CONFIG_S_DRIVER_OK))
		fake_violation(fake, "request of type %u before DRIVER_OK",
			       request->req.type);
	fake_check_zero(fake, "head", request->req.reserved,
			sizeof(request->req.reserved));

	switch (request->req.type) {
	case VIRTIO_IOMMU_T_ATTACH:
		tail.status = fake_attach(fake, request, effect);
		break;
	case VIRTIO_IOMMU_T_DETACH:
		tail.status = fake_detach(fake, request, effect);
		break;
	case VIRTIO_IOMMU_T_MAP:
		tail.status = fake_map(fake, request, effect);
		break;
	case VIRTIO_IOMMU_T_UNMAP:
		tail.status = fake_unmap(fake, request, effect);
		break;
	case VIRTIO_IOMMU_T_PROBE:
		tail.status = fake_probe(fake, request);
		if (!tail.status && (!rule || rule->write == FAKE_HONEST))
			done = fake_push_properties(fake, request);
		break;
	default:
		fake_violation(fake, "request of unknown type %u",
			       request->req.type);
		tail.status = VIRTIO_IOMMU_S_UNSUPP;
	}
	if (rule && rule->status != FAKE_HONEST)
		tail.status = rule->status;
	else if (tail.status)
		fake_refused(fake, request, tail.status);

	/* A PROBE that failed: the status still goes to the end. */
	offset = min(fake_tail_offset(fake, request->req.type),
		     request->writable_len);
	if (done < offset)
		vringh_kiov_advance(&request->writable, offset - done);
	limit = request->writable_len - offset;
	if (rule && rule->write != FAKE_HONEST)
		limit = rule->write > offset ? rule->write - offset : 0;
	limit = min(limit, sizeof(tail));
	mute = tail.status == VIRTIO_IOMMU_S_FAULT &&
	       fake->config.quirks & FAKE_FAULTS_MUTE;
	if (mute)
		limit = 0;
	if (limit)
		fake_push(fake, request, &tail, limit);

	request->used = offset + limit;
	if (mute || (tail.status && fake->config.quirks & FAKE_REFUSES_USED_0))
		request->used = 0;
	if (rule && rule->write != FAKE_HONEST)
		request->used = rule->write;
	if (rule && rule->used != FAKE_HONEST)
		request->used = rule->used;
}
