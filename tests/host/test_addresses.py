# SPDX-License-Identifier: GPL-2.0
"""IO addresses at the limits: of a device's DMA mask, and of the address space."""

import pytest
from harness import images
from harness.machine import C_DRIVER, MODULE, endpoint_id, runs_on

pytestmark = pytest.mark.parity
flavour = runs_on(MODULE, C_DRIVER)

PAGE = 4096


@pytest.fixture(scope="module")
def guest(guests):
    return guests.boot(files=images.dma_map_benchmark())


@pytest.mark.parametrize("bits", [28, 32, 48])
def test_dma_mask_limits_addresses(guest, bits):
    guest.give_edu_to("dma_map_benchmark")
    attached = guest.trace.since().named("attach")
    domain = attached[attached.last("attach", endpoint=endpoint_id(guest.slots.edu))]["domain"]
    mark = guest.trace.mark()
    guest.check(f"dma_map_benchmark -t 1 -s 1 -g 16 -b {bits}")
    maps = [event for event in guest.trace.since(mark).named("map") if event["domain"] == domain]
    assert maps, "no mapping of dma_map_benchmark"
    highest = max(event["virt_end"] for event in maps)
    assert highest < 1 << bits, f"a device that reaches {bits} bits was given {highest:#x}"


@pytest.mark.parametrize("interface", ["type1", "iommufd"])
@pytest.mark.parametrize("limit", ["below-msi", "above-msi", "middle", "last-page"])
def test_page_at_a_limit_is_reached(guest, interface, limit):
    """Below and above what is reserved, and the last page, whose end may be the greatest number there is."""
    end = guest.input_range[1] + 1
    address = {
        "below-msi": 0xFEE00000 - PAGE,
        "above-msi": 0xFEF00000,
        "middle": end // 2,
        "last-page": end - PAGE,
    }[limit]
    bdf = guest.give_edu_to("vfio-pci")
    mark = guest.trace.mark()
    guest.selftest(f"vfio_dma {interface} {bdf} {address:#x}")
    events = guest.trace.since(mark)
    for kind in ("map", "unmap"):
        found = events.first(kind, virt_start=address, virt_end=address + PAGE - 1)
        assert found is not None, f"no {kind} of that page; the device saw\n{events.named(kind)}"
