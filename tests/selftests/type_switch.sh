#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The type of a disk's group changes at run time, DMA-FQ -> identity -> DMA ->
# DMA-FQ, and the disk works at each step. The other groups keep their types.
# What the beginning of the disks held is lost.

DIR=$(dirname "$(realpath "$0")")
. "$DIR/lib.sh"

STEPS_PER_DISK=5

pattern=$(random_file 262144)

# disk_of BDF: the disk of a PCI device; it may come back under another name
disk_of() {
	for path in "$PCI_DEVICES/$1"/virtio*/block/vd* "$PCI_DEVICES/$1"/nvme/nvme*/nvme*n*; do
		[ -e "$path" ] && echo "${path##*/}" && return
	done
	return 1
}

has_disk_file() {
	disk=$(disk_of "$1") && [ -b "/dev/$disk" ]
}

disk_works() {
	wait_until 30 has_disk_file "$1" && compare_disk "$disk" "$pattern" 65536
}

# switch_unbound BDF GROUP TYPE: with the driver away, as the core demands
switch_unbound() {
	driver=$(driver_of "$1") && unbind "$1" && set_group_type "$2" "$3" &&
		bind "$1" "$driver" && disk_works "$1"
}

refuses_while_bound() {
	! echo identity 2> /dev/null > "$IOMMU_GROUPS/$2/type" && disk_works "$1"
}

# DMA to DMA-FQ is the one change that the core allows under a driver.
switch_bound() {
	set_group_type "$2" "$3" && disk_works "$1"
}

switch_types() {
	bdf=$(pci_of_disk "$1")
	group=$(group_of "$bdf")
	remember_others "$group"

	ktap_test_result "$1: its group refuses another type while in use" \
		refuses_while_bound "$bdf" "$group"
	ktap_test_result "$1: works as identity" switch_unbound "$bdf" "$group" identity
	ktap_test_result "$1: works as DMA" switch_unbound "$bdf" "$group" DMA
	ktap_test_result "$1: works as DMA-FQ" switch_bound "$bdf" "$group" DMA-FQ
	ktap_test_result "$1: the other groups kept their types" others_kept_types
}

disks=$(translated_disks)

ktap_print_header
[ -n "$disks" ] || skip_all "no disk behind an IOMMU"
# shellcheck disable=SC2086 # one word per disk
set -- $disks
ktap_set_plan $(($# * STEPS_PER_DISK))

for disk in "$@"; do
	switch_types "$disk"
done

rm -f "$pattern"
ktap_finished
