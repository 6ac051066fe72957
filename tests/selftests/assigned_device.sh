#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# One device is assigned to userspace, through VFIO and through iommufd, and
# reaches what was mapped for it and nothing else. The other groups keep their
# types, and their disks work meanwhile. The device is QEMU's edu. What
# the beginning of the disks held is lost.

DIR=$(dirname "$(realpath "$0")")
. "$DIR/lib.sh"

assign() {
	echo vfio-pci > "$PCI_DEVICES/$1/driver_override" && bind "$1" vfio-pci
}

unassign() {
	unbind "$1" && echo > "$PCI_DEVICES/$1/driver_override"
}

# The tests of vfio_dma become comments of this one.
vfio_dma() {
	output=$(mktemp)
	"$DIR/vfio_dma" "$1" "$2" > "$output" 2>&1
	status=$?
	sed 's/^\(# \)*/# /' "$output"
	rm -f "$output"
	return "$status"
}

disks_work() {
	for disk in $(translated_disks); do
		compare_disk "$disk" "$pattern" 65536 || return 1
	done
}

is_type() {
	[ "$(group_type "$1")" = "$2" ] && return
	ktap_print_msg "group $1 was $2, and is $(group_type "$1")"
	return 1
}

has_faults_that_are_named() {
	vfio_dma type1 "$1" && fault_names "$1"
}

is_reported() {
	fault_names "$1" || wait_until 20 has_faults_that_are_named "$1"
}

ktap_print_header
edu=$(find_edu) || skip_all "no edu device"
group=$(group_of "$edu") || skip_all "the edu device is not behind an IOMMU"
original=$(group_type "$group")
remember_others "$group"
pattern=$(random_file 262144)

ktap_set_plan 7
ktap_print_msg "$edu is in group $group, of type $original; the others are $OTHERS_TYPES"
assign "$edu" || ktap_exit_fail_msg "$edu cannot be bound to vfio-pci"

mark_log
ktap_test_result "VFIO: the device reaches what was mapped, only" vfio_dma type1 "$edu"
ktap_test_result "iommufd: the device reaches what was mapped, only" vfio_dma iommufd "$edu"
ktap_test_result "the faults are reported with the device's name" is_reported "$edu"
ktap_test_result "the other groups kept their types" others_kept_types
ktap_test_result "the disks work" disks_work
ktap_test_result "the device can be given back" unassign "$edu"
ktap_test_result "its group has its type again" is_type "$group" "$original"

rm -f "$pattern"
ktap_finished
