#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# iasl 20200925 (acpica-tools of Debian 12) does not know the VIOT, which ACPI has had since 2021, and loses all of it
# without a word: disassembled, the table is a header and a comment; compiled again, it is a header alone, with
# "0 Errors, 0 Warnings", although the length in that header said 88 bytes. Who overrides a VIOT for a test, as
# Documentation/admin-guide/acpi/initrd_table_override.rst of the kernel has it, gets a guest without an IOMMU.
#
# Needs Debian 12 and the network. Fails if iasl has another behaviour than the one that is said here.

set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download acpica-tools=20200925-8
dpkg -x acpica-tools_*.deb root

# A virtio-iommu in slot 1, and all other functions of segment 0 behind it
python3 - <<'PYTHON'
import struct
from pathlib import Path

iommu = struct.pack("<BxHHH8x", 3, 16, 0, 0x8)
functions = struct.pack("<BxHIHHHHH6x", 1, 24, 0, 0, 0, 0, 0xFFFF, 48)
nodes = struct.pack("<HH8x", 2, 48) + iommu + functions
header = struct.pack("<4sIBB6s8sI4sI", b"VIOT", 36 + len(nodes), 0, 0, b"EXAMPL", b"EXAMPLE ", 1, b"EXAM", 1)
table = bytearray(header + nodes)
table[9] = -sum(table) % 256
Path("viot.dat").write_bytes(table)
PYTHON

root/usr/bin/iasl -d viot.dat > disassembled 2>&1
root/usr/bin/iasl -p again viot.dsl > compiled 2>&1
{
	grep -h "Unknown ACPI table signature" viot.dsl
	grep "Compilation successful" compiled
	echo "$(wc -c < viot.dat) bytes became $(wc -c < again.aml)"
} > seen
cat > expected <<'TEXT'
**** Unknown ACPI table signature [VIOT]
Compilation successful. 0 Errors, 0 Warnings, 0 Remarks
88 bytes became 36
TEXT
cat seen
diff expected seen
