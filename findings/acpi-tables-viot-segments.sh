#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# acpi_tables 0.2.1 (Rust, of rust-vmm): two PCI segments behind one virtio-iommu get the same endpoint ids.
# A PCI range of a VIOT says which id its first function has. The library takes that from the function's bus,
# device and function alone, and has no argument for another: the range of segment 1 begins with the id of the
# same function of segment 0. A guest's kernel (Linux: drivers/acpi/viot.c) adds up what the table says, so that
# two devices attach by one id, and the IOMMU cannot tell them apart.
#
# One range over both segments is right, where the buses are the same in both: Linux counts 65,536 for each
# segment from the first of a range on.
#
# Needs cargo and the network. Fails if the library has another behaviour than the one that is said here.

set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cargo init --quiet --vcs none --name viot
cargo add --quiet acpi_tables@=0.2.1
cat > src/main.rs <<'RUST'
use acpi_tables::viot::{PciDevice, PciRange, VirtIoPciIommu, VIOT};
use acpi_tables::{Aml, AmlSink};

struct Bytes(Vec<u8>);

impl AmlSink for Bytes {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }
}

fn main() {
    let mut table = VIOT::new(*b"EXAMPL", *b"EXAMPLE ", 1);
    let iommu = table.add_virtio_pci_iommu(VirtIoPciIommu::new(PciDevice::new(0, 0, 1, 0)));
    for segment in 0..2 {
        let first = PciDevice::new(segment, 1, 0, 0);
        let last = PciDevice::new(segment, 0xff, 31, 7);
        table.add_pci_range(PciRange::new(first, last, &iommu));
    }
    let mut bytes = Bytes(Vec::new());
    table.to_aml_bytes(&mut bytes);
    // Nodes begin at byte 48, that of the IOMMU has 16 bytes, a PCI range has 24.
    for range in bytes.0[64..].chunks(24) {
        let id = u32::from_le_bytes([range[4], range[5], range[6], range[7]]);
        let segment = u16::from_le_bytes([range[8], range[9]]);
        println!("segment {segment}: endpoint ids from {id:#x}");
    }
}
RUST
cargo run --quiet > seen
cat > expected <<'TEXT'
segment 0: endpoint ids from 0x100
segment 1: endpoint ids from 0x100
TEXT
cat seen
diff expected seen
