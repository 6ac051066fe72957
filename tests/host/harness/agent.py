# SPDX-License-Identifier: GPL-2.0
"""A guest that runs commands for the host: its first process (tests/host/agent) listens on a serial port."""

import base64
import contextlib
import os
import secrets
import select
import socket
import time
from dataclasses import dataclass

from qemu import Guest, GuestError

from harness import tap
from harness.trace import Trace

SELFTESTS = "/selftests/virtio_iommu"

# The port that the agent listens on, as QEMU's devices, and what tells the agent; neither is on the PCI bus.
PORTS = {
    "x86_64": (("-device", "isa-serial,chardev=agent,index=1"), ""),
    "arm64": (("-device", "virtio-serial-device", "-device", "virtserialport,chardev=agent"), "agent=virtio"),
}


@dataclass
class Result:
    """How a command in the guest ended, and what it printed."""

    command: str
    status: int
    output: str


class AgentGuest(Guest):
    """A guest with an agent in it. `patience` stretches each time-out, for slow kernels."""

    def __init__(
        self, directory, kernel, initrd, *, cmdline="", arch="x86_64", patience=1, traced=(), extra=(), **options
    ):
        self.patience = patience
        self._agent, self._received = None, b""
        # Whether a command would be run: not while it boots, nor after something went wrong
        self.answers = False
        port, word = PORTS[arch]
        agent = ["-chardev", "socket,id=agent,path=agent,server=on,wait=on", *port]
        events = [argument for pattern in traced for argument in ("-trace", pattern)]
        super().__init__(
            directory,
            kernel,
            initrd,
            cmdline=f"{cmdline} {word}",
            arch=arch,
            trace=None,
            extra=(*agent, *events, *extra),
            **options,
        )
        self.trace = Trace(self.trace_log)

    def __enter__(self):
        (self.directory / "agent").unlink(missing_ok=True)
        super().__enter__()
        try:
            self._agent = self._connect_agent(timeout=10)
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self):
        if self._agent:
            self._agent.close()
            self._agent = None
        super().kill()

    @property
    def alive(self):
        return self._process.poll() is None

    def _connect_agent(self, timeout):
        """QEMU waits for this connection before it starts the machine, so nothing the agent says is lost."""
        deadline = time.monotonic() + timeout
        # The path of a socket is limited in length; one relative to an open directory is short.
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            while True:
                connection = socket.socket(socket.AF_UNIX)
                with contextlib.suppress(OSError):
                    connection.connect(f"/proc/self/fd/{directory}/agent")
                    return connection
                connection.close()
                if time.monotonic() > deadline or not self.alive:
                    raise GuestError(f"QEMU did not start:\n{self._tail()}")
                time.sleep(0.02)
        finally:
            os.close(directory)

    def _read_until(self, wanted, timeout, what):
        """What the agent sends up to and including the bytes wanted."""
        deadline = time.monotonic() + timeout * self.patience
        while wanted not in self._received:
            ready, _, _ = select.select([self._agent], [], [], max(0, deadline - time.monotonic()))
            received = self._agent.recv(65536) if ready else b""
            if not received:
                self.answers = False
                why = "ended" if ready else f"said nothing for {timeout * self.patience} s"
                raise GuestError(
                    f"the guest {why} while waiting for {what}; "
                    f"the agent's last words: {self._received[-2000:].decode(errors='replace')!r}\n"
                    f"the end of {self.console_log}:\n{self._tail()}"
                )
            self._received += received
        before, _, self._received = self._received.partition(wanted)
        return before + wanted

    def wait_ready(self, timeout=60):
        """Wait until a kernel that boots, the first or a later one, has started the agent."""
        self._read_until(b"agent ready\n", timeout, "the agent")
        self.answers = True

    def system_reset(self, timeout=10):
        """Reset the machine, whatever it is at. What the agent has said before is forgotten, for wait_ready()."""
        self.answers = False
        mark = self.trace.mark()
        self.qmp("system_reset")
        events = self.trace.wait_for(lambda events: events.first("system_reset") is not None, timeout, mark)
        assert events.first("system_reset") is not None, f"the machine was not reset; the device saw\n{events}"
        while select.select([self._agent], [], [], 0)[0] and self._agent.recv(65536):
            pass
        self._received = b""

    def is_ready_within(self, seconds):
        """Whether the agent starts in that time: for boots that should not succeed."""
        deadline = time.monotonic() + seconds
        while b"agent ready\n" not in self._received and time.monotonic() < deadline:
            ready, _, _ = select.select([self._agent], [], [], max(0, deadline - time.monotonic()))
            received = self._agent.recv(65536) if ready else b""
            if ready and not received:
                return False
            self._received += received
        return b"agent ready\n" in self._received

    def start(self, command):
        """Send a command whose answer nobody waits for, such as a reboot."""
        self.answers = False
        self._send("-", command)

    def _send(self, token, command):
        self._agent.sendall(f"{token} {base64.b64encode(command.encode()).decode()}\n".encode())

    def run(self, command, timeout=60):
        """Run a command in the guest's shell; returns a Result."""
        if not self.answers:
            raise GuestError(f"not run: the guest did not survive an earlier test\n{command}")
        token = secrets.token_hex(8)
        self._send(token, command)
        output = self._read_until(f"\n{token} ".encode(), timeout, f"`{command}`")
        status = self._read_until(b"\n", timeout, f"the status of `{command}`")
        return Result(command, int(status), output[: -len(token) - 2].decode(errors="replace"))

    def check(self, command, timeout=60):
        """Run a command that has to succeed; returns its output."""
        result = self.run(command, timeout)
        assert result.status == 0, f"`{command}` failed with status {result.status}:\n{result.output}"
        return result.output.strip()

    def wait_until(self, condition, timeout=30):
        """Wait until a shell condition holds in the guest."""
        tries = int(timeout * self.patience * 10)
        loop = f"i=0; until {condition}; do i=$((i + 1)); [ $i -lt {tries} ] || exit 1; sleep 0.1; done"
        result = self.run(loop, timeout + 10)
        assert result.status == 0, f"not true in the guest after {timeout * self.patience} s: {condition}"

    def selftest(self, command, timeout=120):
        """Run a guest selftest; fails if it does, and shows why. Returns its results."""
        result = self.run(f"{SELFTESTS}/{command}", timeout)
        report = tap.parse(result.output)
        assert report.passed, f"{command} (status {result.status}):\n{result.output}"
        assert result.status == 0, f"{command} ended with status {result.status}:\n{result.output}"
        return report

    def power_off(self, timeout=30):
        self.start("poweroff -f")
        status = self.wait(timeout * self.patience)
        assert status == 0, f"QEMU ended with status {status}"
