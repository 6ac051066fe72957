# SPDX-License-Identifier: GPL-2.0
"""How many requests and notifications an operation takes. A guest of `make bench` does some; QEMU's device counts.

With -icount, a timer that flushes what lazy invalidation has left ticks after the same number of instructions in each
run, so that the counts are exact.
"""

import pytest
from bench_guest import DRIVERS, Files, Run, execute
from bench_workloads import MODES
from harness import images, log
from harness.machine import DRIVER

# QEMU's virtqueues have 256 descriptors, and a request takes two.
RING_FULL = 128

DMA = """
load
insmod /lib/iommu_cost.ko
cost page dma 1
cost pages dma 100
cost scattered sg 64
"""
# The core does this for domains that translate only.
LINK = "cost linked link 2"
MORE = """
cost unattached tree 10
cost ring sg 256
cost coherent-64K coherent 64
cost coherent-4M coherent 4096
cost coherent-64M coherent 65536
rmmod iommu_cost
bind vfio-pci
space type1 $edu 2M-8K-at-4K 2M-scattered
space iommufd $edu 2M-8K-at-4K 2M-scattered
reattach $edu 1 1000
"""
RUNS = {
    "strict": Run("strict", DMA + LINK + MORE, f"{MODES['strict']} hugepagesz=1G hugepages=1", memory=4096),
    "lazy": Run("lazy", DMA + LINK, MODES["lazy"]),
    "identity": Run("identity", DMA, MODES["identity"]),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(build=False, kernels=images.KERNELS, output=tmp_path_factory.mktemp("round-trips"))


def run_guest(files, mode):
    driver = next(name for name, module in DRIVERS.items() if module == DRIVER)
    found = execute(files, RUNS[mode], driver)
    console = (files.output / f"{mode}-{driver}" / "console.log").read_text(encoding="utf-8", errors="replace")
    splats = log.splats(console)
    assert not splats, "\n\n".join(splats)
    return found


@pytest.fixture(scope="module")
def strict(files):
    return run_guest(files, "strict")


@pytest.fixture(scope="module")
def lazy(files):
    return run_guest(files, "lazy")


@pytest.fixture(scope="module")
def identity(files):
    return run_guest(files, "identity")


def assert_took(measurement, operations=1, **expected):
    """What one operation took, as the device saw it: requests by kind, and `notify`."""
    wanted = {kind: count * operations for kind, count in expected.items() if count}
    assert dict(measurement.events) == wanted, f"{measurement.name}, {operations} operations"


def operations(measurement):
    """Each is a map and its unmap."""
    return measurement.fields["operations"]


@pytest.mark.parametrize(
    ("name", "maps", "notifications"),
    [
        pytest.param("page", 1, 2, id="one-page"),
        pytest.param("pages", 1, 2, id="contiguous-range-of-no-power-of-two"),
        pytest.param("scattered", 64, 2, id="scatterlist"),
        pytest.param("ring", 256, 256 // RING_FULL + 1, id="scatterlist-larger-than-the-ring"),
    ],
)
def test_strict_map_and_unmap(strict, name, maps, notifications):
    assert_took(strict[name], operations(strict[name]), map=maps, unmap=1, notify=notifications)


@pytest.mark.parametrize(("name", "maps"), [("page", 1), ("pages", 1), ("scattered", 64)])
def test_lazy_unmap_goes_out_with_a_map_or_a_flush(lazy, name, maps):
    """The core flushes after 256 unmaps, or when a timer says so."""
    found, times = lazy[name], operations(lazy[name])
    assert found.events["map"] == maps * times, found
    assert found.events["unmap"] <= times, found
    assert found.notifications <= times * (1 + 1 / 64), found


@pytest.mark.parametrize("name", ["page", "pages", "scattered"])
def test_identity_sends_nothing(identity, name):
    assert_took(identity[name])


@pytest.mark.parametrize(("size", "maps"), [("64K", 1), ("4M", 1), ("64M", 16)])
def test_coherent_memory_is_mapped_in_large_pieces(strict, size, maps):
    """The core allocates pages as large as the domain says are good, of up to 4 MiB; neighbours become one."""
    found = strict[f"coherent-{size}"]
    assert found.events["map"] <= maps * operations(found), found
    assert found.events["unmap"] == operations(found), found
    assert found.notifications == 2 * operations(found), found


@pytest.mark.parametrize("mode", ["strict", "lazy"])
def test_pieces_that_were_linked_are_unlinked_one_by_one(request, mode):
    """They touch, in IO addresses as in memory. The guest itself looks at what the first unlink has left."""
    found = request.getfixturevalue(mode)["linked"]
    assert_took(found, operations(found), map=2, unmap=2, notify=3)


@pytest.mark.parametrize("interface", ["type1", "iommufd"])
@pytest.mark.parametrize("what", ["map", "unmap"])
def test_range_of_any_alignment_is_one_request(strict, interface, what):
    assert_took(strict[f"{interface}-2M-8K-at-4K-{what}"], **{what: 1, "notify": 1})


@pytest.mark.parametrize("interface", ["type1", "iommufd"])
def test_scattered_memory_is_unmapped_with_one_request(strict, interface):
    assert_took(strict[f"{interface}-2M-scattered-unmap"], unmap=1, notify=1)


def test_domain_without_an_endpoint_sends_nothing(strict):
    """The device knows no such domain, and would refuse its requests."""
    assert_took(strict["unattached"])


@pytest.mark.parametrize("mappings", [1, 1000])
def test_replay_fills_the_ring(strict, mappings):
    fillings = -(-mappings // RING_FULL)
    assert_took(strict[f"reattach-{mappings}"], attach=1, map=mappings, notify=1 + fillings)
