# SPDX-License-Identifier: GPL-2.0
"""What QEMU's devices saw: its trace, in order."""

import re
import time
from dataclasses import dataclass, field

_LINE = re.compile(r"^(?:\d+@\d+\.\d+:)?(\w+) ?(.*)$")
_NUMBER = re.compile(r"\b([a-z_]+) ?= ?(0x[0-9a-f]+|-?\d+)\b")
_DEVICE = re.compile(r"Device ([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")

# How many events to show from the beginning and the end of many
_SHOWN = 30

# The machine is reset. What QEMU calls that depends on its version.
_MACHINE_RESETS = ("system_reset", "device_reset_exit")

# One line for each translation would be too many. A pattern stands for an event that not every version has.
IOMMU_EVENTS = tuple(
    f"virtio_iommu_{name}"
    for name in (
        *("device_reset*", "system_reset*", "device_status", "get_config", "set_config"),
        *("attach", "detach", "map", "unmap", "switch_address_space"),
        *("fill_resv_property", "report_fault"),
    )
)


@dataclass(frozen=True)
class Event:
    """One line of the trace; those of the IOMMU go by their names without `virtio_iommu_`.

    The driver's reset, a device status of 0, is `reset`; the machine's, which has it reset too, is `system_reset`.
    """

    name: str
    text: str
    fields: dict = field(default_factory=dict)

    def __getitem__(self, name):
        return self.fields[name]

    def __str__(self):
        return f"{self.name} {self.text}"

    @classmethod
    def parse(cls, line):
        found = _LINE.match(line)
        if not found:
            return None
        name, text = found.group(1).removeprefix("virtio_iommu_"), found.group(2)
        fields = {key: int(value, 0) for key, value in _NUMBER.findall(text)}
        # A number of a domain has 32 bits, of which QEMU takes one for the sign.
        fields = {key: value & 0xFFFF_FFFF if value < 0 else value for key, value in fields.items()}
        if device := _DEVICE.search(text):
            fields["device"] = device.group(1)
        if name == "device_status" and fields["status"] == 0:
            name = "reset"
        elif name in _MACHINE_RESETS:
            name = "system_reset"
        return cls(name, text, fields)


class Events(list):
    """Some events of a trace, in order."""

    def __getitem__(self, key):
        """One event, or, for a slice, events."""
        found = super().__getitem__(key)
        return Events(found) if isinstance(key, slice) else found

    def named(self, *names):
        return Events(event for event in self if event.name in names)

    def first(self, name, **fields):
        """The position of the first event of that name with these fields, or None."""
        for position, event in enumerate(self):
            if event.name == name and all(event.fields.get(key) == value for key, value in fields.items()):
                return position
        return None

    def last(self, name, **fields):
        position = Events(reversed(self)).first(name, **fields)
        return None if position is None else len(self) - 1 - position

    def address_spaces(self):
        """Device to whether its DMA is translated, after these events."""
        return {event["device"]: bool(event["enabled"]) for event in self.named("switch_address_space")}

    def attached(self):
        """Endpoint to domain, after these events. A driver's reset changes nothing here: some devices keep them."""
        found = {}
        for event in self.named("attach", "detach", "system_reset"):
            if event.name == "attach":
                found[event["endpoint"]] = event["domain"]
            elif event.name == "system_reset":
                found.clear()
            else:
                found.pop(event["endpoint"], None)
        return found

    def bypass(self):
        """The global bypass field as last read or written, or None."""
        seen = self.named("get_config", "set_config")
        return seen[-1]["bypass"] if seen else None

    def __str__(self):
        shown = [str(event) for event in self]
        if len(shown) > 2 * _SHOWN:
            shown[_SHOWN:-_SHOWN] = [f"... {len(shown) - 2 * _SHOWN} more ..."]
        return "\n".join(shown) or "(no event)"


class Trace:
    """The trace of a guest that may still run. QEMU writes a line before it goes on, so what a command in the
    guest has caused is there once its answer has come."""

    def __init__(self, path):
        self.path = path

    def mark(self):
        """The present end of the trace, for since()."""
        return self.path.stat().st_size if self.path.exists() else 0

    def since(self, mark=0, until=None):
        """The events since a mark, and until another one."""
        if not self.path.exists():
            return Events()
        with open(self.path, "rb") as trace:
            trace.seek(mark)
            text = trace.read(-1 if until is None else until - mark).decode(errors="replace")
        return Events(event for event in map(Event.parse, text.splitlines()) if event)

    def wait_for(self, condition, timeout, mark=0):
        """Wait until a condition on the events since the mark holds; returns them, whether or not it did."""
        deadline = time.monotonic() + timeout
        while not condition(events := self.since(mark)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return events
