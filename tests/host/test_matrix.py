# SPDX-License-Identifier: GPL-2.0
"""Machines with devices of all kinds: their data is right, translated or not, and nothing is neither open nor dead."""

import random
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import qemu
from harness import hotplug
from harness.agent import SELFTESTS
from harness.load import DiskLoad, Holder
from harness.machine import MACHINES, MACHINES_C, Slots, runs_on

pytestmark = pytest.mark.matrix
flavour = runs_on(MACHINES, MACHINES_C)

MODES = {"lazy": "", "strict": "iommu.strict=1", "identity": "iommu.passthrough=1"}
TYPES = {"lazy": "DMA-FQ", "strict": "DMA", "identity": "identity"}

# What edu_dma says when no byte arrived
BLOCKED = 2
# What goes to the host, and how many times it comes back. It is less than a window, and goes in segments of 1024 bytes,
# so that no buffer begins with the last byte of a page. QEMU looks such a byte up together with the next one
# (interval.high = addr + 1 in virtio_iommu_translate()), and may take the mapping of the next page for it.
SENT_BYTES, TIMES, MTU = 32 << 10, 32, 1024 + 40
# Only what the row is about, beside the IOMMU, the first disk and edu
BARE = Slots(nvme=None)
PC = ("-M", "pc")


# --- What a row of the table is made of -------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A machine, and what is looked at."""

    # Given a directory for images: devices, as Machine gets them
    devices: Callable = lambda _: []
    # PCI addresses of network cards, and names of disks
    cards: tuple = ()
    disks: tuple = ()
    # Whether there is a screen
    screen: bool = False
    # Addresses that share a group; addresses without one
    together: tuple = ()
    outside: tuple = ()
    # Devices of the table's that are unplugged in the end: QEMU's name to the address
    unplugged: dict = field(default_factory=dict)
    # What QEMU has to have: models, or (model, property); and a file that this machine has to have
    needs: tuple = ()
    host_needs: str | None = None
    # What the guest runs at first, until it succeeds
    prepare: str = ":"
    # For Guests.boot()
    options: dict = field(default_factory=dict)
    modes: tuple = ("lazy", "identity")


def card(model, number, **properties):
    """A network card on a network of its own, 10.0.number.0."""
    network = f"user,id=net{number},net=10.0.{number}.0/24"
    return ["-netdev", network, *qemu.device(model, netdev=f"net{number}", **properties)]


def port(name, number, **properties):
    return qemu.device("pcie-root-port", id=name, chassis=number, slot=number, **properties)


def disk(directory, name, **properties):
    return qemu.virtio_blk(qemu.disk_image(directory / name), f"{name}-image", id=name, **properties)


MODERN = {"iommu__platform": True, "disable_legacy": "on"}

# What QEMU runs when the interface is there
TAP_SCRIPT = "#!/bin/sh\nip address add 10.0.1.2/24 dev $1 && ip link set $1 up\n"


def card_of_the_host(directory):
    """A network card of virtio whose rings the host's kernel works on."""
    script = directory / "tap"
    script.write_text(TAP_SCRIPT, encoding="utf-8")
    script.chmod(0o755)
    network = f"tap,id=net1,vhost=on,script={script},downscript=no"
    return ["-netdev", network, *qemu.device("virtio-net-pci", id="card", netdev="net1", bus="port1", **MODERN)]


def virtio_devices(directory):
    image = qemu.disk_image(directory / "scsi")
    return [
        *(port("port1", 1, addr=8), port("port2", 2, addr=9), port("port3", 3, addr=0xA)),
        disk(directory, "blk", bus="port1"),
        qemu.device("virtio-scsi-pci", id="scsi", bus="port2", **MODERN),
        ["-drive", f"file={image},if=none,format=raw,id=lun", *qemu.device("scsi-hd", drive="lun", bus="scsi.0")],
        card("virtio-net-pci", 1, id="net", bus="port3", **MODERN),
    ]


def many_functions(directory):
    return [
        disk(directory, "function0", addr="8.0", multifunction=True),
        qemu.nvme(qemu.disk_image(directory / "function1"), "function1", addr="8.1"),
        card("virtio-net-pci", 1, addr="8.2", **MODERN),
        qemu.edu(addr="8.3"),
    ]


def behind_a_switch(directory):
    return [
        port("port1", 1, addr=8),
        qemu.device("x3130-upstream", id="upstream", bus="port1"),
        qemu.device("xio3130-downstream", id="down1", bus="upstream", chassis=11, slot=11),
        qemu.device("xio3130-downstream", id="down2", bus="upstream", chassis=12, slot=12),
        disk(directory, "switched", bus="down1"),
        card("e1000e", 1, id="card", bus="down2"),
    ]


def second_host_bridge(directory, **properties):
    return [
        qemu.device("pxb-pcie", id="pxb", bus__nr=0x40, **properties),
        *(port("port1", 1, bus="pxb", addr=0), port("port2", 2, bus="pxb", addr=1)),
        disk(directory, "far", bus="port1"),
        card("e1000e", 1, id="card", bus="port2"),
    ]


# By itself the kernel asks for 256 disks, one after the other.
SCAN = {
    "prepare": "cd /sys/class/scsi_host && ls -d host*/scan && for host in *; do echo 0 0 0 > $host/scan; done"
}
NO_SCAN = "scsi_mod.scan=manual"


# --- The table --------------------------------------------------------------------------------------------

# Each disk, named vdb and so on, is beside the first one, vda.
ROWS = {
    "virtio": Row(
        virtio_devices,
        cards=("0000:03:00.0",),
        disks=("vdb", "sda"),
        unplugged={"blk": "0000:01:00.0", "scsi": "0000:02:00.0", "net": "0000:03:00.0"},
        options={"command_line": NO_SCAN},
        modes=tuple(MODES),
        **SCAN,
    ),
    "e1000e": Row(
        lambda _: [port("port1", 1, addr=8), card("e1000e", 1, id="card", bus="port1")],
        cards=("0000:01:00.0",),
        unplugged={"card": "0000:01:00.0"},
    ),
    "vhost": Row(
        lambda directory: [port("port1", 1, addr=8), card_of_the_host(directory)],
        cards=("0000:01:00.0",),
        unplugged={"card": "0000:01:00.0"},
        host_needs="/dev/vhost-net",
    ),
    "gpu": Row(
        lambda _: [port("port1", 1, addr=8), qemu.device("virtio-gpu-pci", id="gpu", bus="port1", **MODERN)],
        screen=True,
    ),
    "rtl8139": Row(lambda _: [card("rtl8139", 1, addr=8)], cards=("0000:00:08.0",)),
    "nvme": Row(
        lambda directory: [
            port("port1", 1, addr=8),
            qemu.nvme(qemu.disk_image(directory / "nvme"), id="ssd", bus="port1"),
        ],
        disks=("nvme0n1",),
        unplugged={"ssd": "0000:01:00.0"},
    ),
    "multifunction": Row(
        many_functions,
        cards=("0000:00:08.2",),
        disks=("vdb", "nvme0n1"),
        together=tuple(f"0000:00:08.{function}" for function in range(4)),
    ),
    "switch": Row(
        behind_a_switch,
        cards=("0000:04:00.0",),
        disks=("vdb",),
        unplugged={"switched": "0000:03:00.0", "card": "0000:04:00.0"},
    ),
    "pxb-pcie": Row(second_host_bridge, cards=("0000:42:00.0",), disks=("vdb",)),
    "pxb-pcie-bypass": Row(
        lambda directory: second_host_bridge(directory, bypass__iommu=True),
        cards=("0000:42:00.0",),
        disks=("vdb",),
        outside=("0000:40:00.0", "0000:40:01.0", "0000:41:00.0", "0000:42:00.0"),
    ),
    "pc": Row(
        lambda directory: [
            disk(directory, "second", addr=8),
            card("rtl8139", 1, id="card1", addr=9),
            card("virtio-net-pci", 2, id="card2", addr=0xA, **MODERN),
            qemu.nvme(qemu.disk_image(directory / "nvme"), addr=0xB),
        ],
        cards=("0000:00:09.0", "0000:00:0a.0"),
        disks=("vdb", "nvme0n1"),
        unplugged={"second": "0000:00:08.0", "card1": "0000:00:09.0", "card2": "0000:00:0a.0"},
        options={"extra": PC},
        modes=tuple(MODES),
    ),
    **{
        f"aw-bits-{bits}": Row(
            lambda directory: [qemu.nvme(qemu.disk_image(directory / "nvme"), addr=8)],
            disks=("nvme0n1",),
            needs=(("virtio-iommu-pci", "aw-bits"),),
            options={"iommu": {"aw_bits": bits}, "memory": 5 << 10},
        )
        for bits in (32, 36, 39, 48, 64)
    },
    "ats": Row(
        lambda directory: [port("port1", 1, addr=8), disk(directory, "blk", bus="port1", ats=True)],
        disks=("vdb",),
        unplugged={"blk": "0000:01:00.0"},
    ),
    "iommu-first": Row(options={"slots": Slots(iommu=1, nvme=None)}),
    "iommu-last": Row(options={"slots": Slots(iommu=0x1E, nvme=None)}),
    "async-probe": Row(
        virtio_devices,
        cards=("0000:03:00.0",),
        disks=("sda",),
        options={"command_line": f"{NO_SCAN} driver_async_probe=*"},
        **SCAN,
    ),
}


# --- What is looked at ------------------------------------------------------------------------------------


class Echo(socketserver.BaseRequestHandler):
    """Gets some bytes, and then sends them back, for the guest to compare."""

    def handle(self):
        self.request.settimeout(30)
        data = b""
        while len(data) < SENT_BYTES and (received := self.request.recv(65536)):
            data += received
        self.request.sendall(data * TIMES)


@pytest.fixture(scope="module")
def echo():
    """The number of a port of this machine where bytes are sent back."""
    with socketserver.ThreadingTCPServer(("", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def assert_card_works(guest, bdf, network, echo):
    """QEMU's own network has the host at .2; TCP takes bytes there and back."""
    device = f"/sys/bus/pci/devices/{bdf}"
    guest.wait_until(f"[ -e {device}/net ] || [ -e {device}/virtio*/net ]")
    name = guest.check(f"ls {device}/net {device}/virtio*/net 2> /dev/null; :").split()[-1]
    guest.check(f"ifconfig {name} 10.0.{network}.15 netmask 255.255.255.0 mtu {MTU} up")
    guest.wait_until(f"ping -c 1 -W 1 10.0.{network}.2 > /dev/null")
    guest.check(
        f"head -c {SENT_BYTES} /dev/urandom > /tmp/sent;"
        f"for i in $(seq {TIMES}); do cat /tmp/sent; done > /tmp/expected;"
        f"timeout 60 nc 10.0.{network}.2 {echo} < /tmp/sent > /tmp/received; cmp /tmp/expected /tmp/received"
    )


def picture(path):
    """The pixels of a PPM, three bytes each."""
    kind, width, height, depth, pixels = path.read_bytes().split(maxsplit=4)
    assert (kind, depth) == (b"P6", b"255"), f"{path}: {kind} {depth}"
    return pixels


def assert_screen_works(guest):
    """What the guest writes into the frame buffer, no page of which is like another, is what QEMU's screen shows."""
    screen = "/sys/class/graphics/fb0"
    guest.wait_until("[ -c /dev/fb0 ]")
    guest.check(f"head -n 1 {screen}/modes > {screen}/mode")
    assert guest.check(f"cat {screen}/bits_per_pixel") == "32"
    width, height = (int(word) for word in guest.check(f"cat {screen}/virtual_size").split(","))
    assert int(guest.check(f"cat {screen}/stride")) == 4 * width
    size = 4 * width * height
    guest.check(f"seq {size} | head -c {size} > /dev/fb0")
    written = b"".join(b"%d\n" % number for number in range(1, size // 6))[:size]
    assert len(written) == size
    expected = bytearray(3 * width * height)
    for color in range(3):
        expected[color::3] = written[2 - color :: 4]
    shot, deadline = guest.directory / "screen.ppm", time.monotonic() + 30
    while True:
        guest.qmp("screendump", filename=str(shot))
        if (seen := picture(shot)) == expected:
            return
        assert time.monotonic() < deadline, f"{sum(map(int.__ne__, seen, expected))} bytes of {len(expected)} differ"


def pci_devices(guest):
    """PCI address to the number and the type of its group, or to None."""
    lines = guest.check(
        "for device in /sys/bus/pci/devices/*; do group=$device/iommu_group;"
        ' echo ${device##*/} $(! [ -e $group ] || echo $(basename $(readlink $group)) $(cat $group/type)); done'
    ).splitlines()
    return {bdf: tuple(group) or None for bdf, *group in (line.split() for line in lines)}


def endpoint(bdf):
    """As the IOMMU names it."""
    _, bus, device, function = bdf.replace(".", ":").split(":")
    return int(bus, 16) << 8 | int(device, 16) << 3 | int(function)


def assert_endpoints_are_attached(guest, mode, row, until=None):
    """Each PCI device but the IOMMU and those outside is in a group of the mode's type, and attached."""
    devices = pci_devices(guest)
    without = {bdf for bdf, group in devices.items() if group is None}
    assert without == {f"0000:00:{guest.slots.iommu:02x}.0", *row.outside}, f"without a group: {without} of {devices}"
    types = {group[1] for group in devices.values() if group}
    assert types == {TYPES[mode]}, devices
    assert len({devices[bdf] for bdf in row.together}) < 2, f"{row.together} in {devices}"
    attached = guest.trace.since(0, until).attached().keys()
    expected = {endpoint(bdf) for bdf, group in devices.items() if group}
    assert attached == expected, f"attached {sorted(attached)}, expected {sorted(expected)} of {devices}"


def assert_no_fault(guest):
    faults = guest.trace.since().named("report_fault")
    assert not faults, f"DMA was refused:\n{faults}"


def assert_isolated(guest, mode):
    """A translated edu reaches nothing that is not mapped, and another one everything. This may be a fault."""
    result = guest.run(f"{SELFTESTS}/edu_dma {guest.edu} physical")
    assert result.status == (0 if mode == "identity" else BLOCKED), f"status {result.status}: {result.output}"


def unplug(guest, name, bdf):
    guest.qmp("device_del", id=name)
    guest.wait_until(f"[ ! -e /sys/bus/pci/devices/{bdf} ]")
    deadline = time.monotonic() + 10
    while hotplug.has(guest, name) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not hotplug.has(guest, name), f"QEMU still has {name}"
    left = guest.trace.since().attached()
    assert endpoint(bdf) not in left, f"{bdf} is unplugged, and attached: {left}"


# --- The tests --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def guests_end_with_their_test(guests):
    """One that hangs would keep a CPU busy."""
    yield
    for guest in guests.all:
        guest.kill()


def skip_without(needs):
    for need in needs:
        model, name = (need, None) if isinstance(need, str) else need
        if not (qemu.has_property(model, name) if name else qemu.has_model(model)):
            pytest.skip(f"{qemu.version()} has no {f'{name} of {model}' if name else model}")


def boot(guests, row, mode, directory):
    """Start the machine of a row, if this QEMU and this machine have it."""
    skip_without(row.needs)
    if row.host_needs and not Path(row.host_needs).exists():
        pytest.skip(f"this machine has no {row.host_needs}")
    options = {"slots": BARE, **row.options}
    words = f"{MODES[mode]} {options.pop('command_line', '')}"
    # After the machine's own devices, which would go to the last of several host bridges. The firmware is to leave the
    # disks alone: QEMU 11.1 looks into its rings once more when the kernel's driver comes, and is refused.
    devices = [word for device in row.devices(directory) for word in device]
    extra = ["-boot", "strict=on", *options.pop("extra", ()), *devices]
    return guests.boot(command_line=words, extra=extra, **options)


CASES = [pytest.param(name, mode, id=f"{name}-{mode}") for name, row in ROWS.items() for mode in row.modes]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_machine(guests, tmp_path, echo, name, mode):
    row = ROWS[name]
    guest = boot(guests, row, mode, tmp_path)
    guest.wait_until(row.prepare)
    for disk in ("vda", *row.disks):
        guest.wait_until(f"[ -b /dev/{disk} ]")
        guest.check(f"disk-test /dev/{disk} 1")
    for network, bdf in enumerate(row.cards, start=1):
        assert_card_works(guest, bdf, network, echo)
    if row.screen:
        assert_screen_works(guest)
    assert_endpoints_are_attached(guest, mode, row)
    assert_no_fault(guest)
    for name, bdf in row.unplugged.items():
        unplug(guest, name, bdf)
    guest.check("disk-test /dev/vda 1")
    assert_no_fault(guest)
    assert_isolated(guest, mode)
    guest.power_off()
    guests.check_logs()


def igb(_):
    return [port("port1", 1, addr=8), card("igb", 1, id="card", bus="port1")]


def nvme_with_functions(directory):
    functions = {"sriov__max__vfs": 2, "sriov__vq__flexible": 4, "sriov__vi__flexible": 2}
    image = qemu.disk_image(directory / "nvme")
    return [
        port("port1", 1, addr=8),
        qemu.device("nvme-subsys", id="subsystem"),
        qemu.device("nvme", serial="functions", id="physical", bus="port1", subsys="subsystem", **functions),
        ["-drive", f"file={image},if=none,format=raw,id=space", *qemu.device("nvme-ns", drive="space", bus="physical")],
    ]


PHYSICAL = "0000:01:00.0"
FUNCTION_CONTROLLER = 1
VIRTUAL = {
    "igb": (Row(igb, needs=("igb",)), "0000:01:10.0"),
    "nvme": (Row(nvme_with_functions, needs=(("nvme", "sriov_max_vfs"),)), "0000:01:00.1"),
}
CYCLES, RESETS, SNAPSHOT_LOADS = 50, 6, 3


def assert_function_of_the_drive_works(guest, bdf):
    """The drive has to hand queues over to it first, for which it is reset."""
    functions = f"/sys/bus/pci/devices/{PHYSICAL}/sriov_numvfs"
    guest.check(f"echo 0 > {functions}")
    guest.check(f"{SELFTESTS}/nvme_function /dev/nvme0 release && echo 1 > /sys/bus/pci/devices/{PHYSICAL}/reset")
    guest.check(f"echo 2 > {functions}")
    guest.check(f"{SELFTESTS}/nvme_function /dev/nvme0 online {FUNCTION_CONTROLLER}")
    guest.give(bdf, "nvme")
    space = f"/sys/bus/pci/devices/{bdf}/nvme/nvme*/nvme*n*"
    guest.wait_until(f"ls -d {space}")
    guest.check(f"disk-test /dev/$(basename {space}) 1")


@pytest.mark.parametrize("mode", ["lazy", "identity"])
@pytest.mark.parametrize("name", VIRTUAL)
def test_virtual_functions(guests, tmp_path, echo, name, mode):
    row, first = VIRTUAL[name]
    guest = boot(guests, row, mode, tmp_path)
    functions = f"/sys/bus/pci/devices/{PHYSICAL}"
    guest.wait_until(f"[ -e {functions}/driver ]")
    before, attached = hotplug.counted(guest), guest.trace.since().attached()
    guest.check(f"echo 0 > {functions}/sriov_drivers_autoprobe")
    guest.check(
        f"for i in $(seq {CYCLES}); do"
        f"  echo 2 > {functions}/sriov_numvfs && echo 0 > {functions}/sriov_numvfs || exit 1; done",
        timeout=200,
    )
    assert hotplug.counted(guest) == before
    assert guest.trace.since().attached().keys() == attached.keys()

    guest.check(f"echo 2 > {functions}/sriov_numvfs")
    assert_endpoints_are_attached(guest, mode, row)
    if name == "igb":
        assert_card_works(guest, PHYSICAL, 1, echo)
        # A function's packets get no answer from QEMU's network, translated or not. Its rings are used all the same.
        guest.give(first, "igbvf")
        guest.check(f"ifconfig $(ls /sys/bus/pci/devices/{first}/net) up")
    else:
        assert_function_of_the_drive_works(guest, first)
    assert_no_fault(guest)

    mark = guest.trace.mark()
    Holder(guest, "type1", first, released=False)
    held = guest.trace.since(mark)
    domain = held.named("attach")[-1]["domain"]
    assert endpoint(first) in held.attached() and held.first("map", domain=domain) is not None, f"it saw\n{held}"
    guest.check("kill $(pidof vfio_hold)")
    guest.wait_until("[ -e /tmp/hold.over ]")
    guest.check(f"echo 0 > {functions}/sriov_numvfs")
    assert guest.trace.since().attached().keys() == attached.keys()
    guest.check("disk-test /dev/vda 1")
    guest.power_off()
    guests.check_logs()


def wait_for_boot(guest):
    guest.wait_ready(timeout=90)
    guest.wait_for_disks()


@pytest.mark.parametrize("mode", ["lazy", "identity"])
def test_resets_at_random_moments(guests, mode):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    # It is reset while it boots, too, hence a driver that is loaded then.
    guest = guests.start(reboots=True, command_line=f"{MODES[mode]} load={guests.flavour.module}")
    for _ in range(RESETS):
        time.sleep(moments.uniform(0.1, 4))
        guest.system_reset()
    wait_for_boot(guest)
    # It ends with the machine.
    DiskLoad(guest).__enter__()
    guest.system_reset()
    mark = guest.trace.mark()
    wait_for_boot(guest)
    assert_endpoints_are_attached(guest, mode, Row())
    if guest.flavour != MACHINES_C:
        assert guest.trace.since(mark).bypass() == 0
    for name in guest.disks:
        guest.check(f"disk-test /dev/{name} 1")
    assert_no_fault(guest)
    assert_isolated(guest, mode)
    guest.power_off()


def finish_job(guest, name, timeout=60):
    """Wait for a job of QEMU's, which has to succeed."""
    deadline = time.monotonic() + timeout
    while (job := next(job for job in guest.qmp("query-jobs") if job["id"] == name))["status"] != "concluded":
        assert time.monotonic() < deadline, f"{name} takes more than {timeout} s"
        time.sleep(0.05)
    assert "error" not in job, job
    guest.qmp("job-dismiss", id=name)


def add_snapshot_store(guest, path):
    """A node `store` for the state of the machine."""
    path.touch()
    guest.qmp("blockdev-add", driver="file", node_name="store-file", filename=str(path))
    guest.qmp("blockdev-create", job_id="create", options={"driver": "qcow2", "file": "store-file", "size": 1 << 20})
    finish_job(guest, "create")
    guest.qmp("blockdev-add", driver="qcow2", node_name="store", file="store-file")


@pytest.mark.parametrize("mode", ["lazy", "identity"])
def test_snapshots_under_load(guests, tmp_path, echo, mode):
    """What the disks hold is no part of the snapshots: the load only reads."""
    devices = [card("e1000e", 1, addr=8), disk(tmp_path, "second", addr=9)]
    # edu and NVMe drives are not in snapshots.
    guest = guests.boot(devices=devices, slots=Slots(nvme=None, edu=None), command_line=MODES[mode])
    add_snapshot_store(guest, tmp_path / "store.qcow2")
    mark = guest.trace.mark()
    snapshot = {"tag": "busy", "vmstate": "store", "devices": ["store"]}
    with DiskLoad(guest, ("vda", "vdb")) as load:
        guest.qmp("snapshot-save", job_id="save", **snapshot)
        finish_job(guest, "save")
        for _ in range(SNAPSHOT_LOADS):
            load.wait_for_progress()
            guest.qmp("snapshot-load", job_id="load", **snapshot)
            finish_job(guest, "load")
        load.wait_for_progress()
    # The device has them from the snapshot now, and says nothing of it.
    assert_endpoints_are_attached(guest, mode, Row(), until=mark)
    for name in ("vda", "vdb"):
        guest.check(f"disk-test /dev/{name} 1")
    assert_card_works(guest, "0000:00:08.0", 1, echo)
    assert_no_fault(guest)
    guest.power_off()
