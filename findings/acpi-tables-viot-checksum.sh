#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# acpi_tables 0.2.1 (Rust, of rust-vmm), which virtual machine monitors make their ACPI tables with: a VIOT of
# 256 nodes or more has a wrong checksum. The library keeps the sum up to date as nodes are added, and counts
# one for each of them. But the number of nodes in the table's header has 16 bits: at each 256 its low byte
# starts again at 0, and its high byte has gone up by one only.
#
# A guest's kernel says so at boot ("Incorrect checksum in table [VIOT]"), and goes on. An IOMMU with 255
# endpoints of the MMIO transport is enough; PCI needs one node for a range.
#
# Needs cargo and the network. Fails if the library has another behaviour than the one that is said here.

set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cargo init --quiet --vcs none --name viot
cargo add --quiet acpi_tables@=0.2.1
cat > src/main.rs <<'RUST'
use acpi_tables::viot::{MmioEndpoint, PciDevice, VirtIoPciIommu, VIOT};
use acpi_tables::{Aml, AmlSink};

struct Bytes(Vec<u8>);

impl AmlSink for Bytes {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }
}

fn main() {
    for nodes in [2, 255, 256, 511, 512] {
        let mut table = VIOT::new(*b"EXAMPL", *b"EXAMPLE ", 1);
        let iommu = table.add_virtio_pci_iommu(VirtIoPciIommu::new(PciDevice::new(0, 0, 1, 0)));
        for endpoint in 1..nodes {
            let base = 0xfeb0_0000 + 0x200 * u64::from(endpoint);
            table.add_mmio_endpoint(MmioEndpoint::new(endpoint, base, &iommu));
        }
        let mut bytes = Bytes(Vec::new());
        table.to_aml_bytes(&mut bytes);
        let counted = u16::from_le_bytes([bytes.0[36], bytes.0[37]]);
        let sum = bytes.0.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        println!("{counted} nodes: all bytes add up to {sum}");
    }
}
RUST
cargo run --quiet > seen
# All bytes of an ACPI table add up to 0 (modulo 256).
cat > expected <<'TEXT'
2 nodes: all bytes add up to 0
255 nodes: all bytes add up to 0
256 nodes: all bytes add up to 1
511 nodes: all bytes add up to 1
512 nodes: all bytes add up to 2
TEXT
cat seen
diff expected seen
