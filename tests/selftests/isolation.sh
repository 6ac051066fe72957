#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# A device that does DMA to memory that was not mapped for it does not reach
# it, and the kernel log names the device. In an identity group, the same DMA
# arrives. The device is QEMU's edu, to which no driver is bound.

DIR=$(dirname "$(realpath "$0")")
. "$DIR/lib.sh"

BLOCKED=2

# physical_dma BDF: as edu_dma returns
physical_dma() {
	said=$("$DIR/edu_dma" "$1" physical 2>&1)
	status=$?
	ktap_print_msg "edu_dma: $said (status $status)"
	return "$status"
}

is_blocked() {
	physical_dma "$1"
	[ $? -eq "$BLOCKED" ]
}

is_blocked_and_named() {
	is_blocked "$1" && fault_names "$1"
}

is_reported() {
	wait_until 20 is_blocked_and_named "$1" && return
	log_since_mark | grep -i fault | sed 's/^/# log: /'
	return 1
}

switch_and_dma() {
	set_group_type "$1" "$2" && physical_dma "$3"
}

switch_and_block() {
	set_group_type "$1" "$2" && is_blocked "$3"
}

ktap_print_header
edu=$(find_edu) || skip_all "no edu device"
group=$(group_of "$edu") || skip_all "the edu device is not behind an IOMMU"
! driver_of "$edu" > /dev/null || skip_all "a driver is bound to the edu device"
original=$(group_type "$group")

ktap_set_plan 5
set_group_type "$group" DMA || ktap_exit_fail_msg "no translated group to test with"

mark_log
ktap_test_result "translated: DMA to unmapped memory does not reach it" is_blocked "$edu"
ktap_test_result "translated: the fault is reported with the device's name" is_reported "$edu"
ktap_test_result "identity: the same DMA reaches memory" switch_and_dma "$group" identity "$edu"
ktap_test_result "translated again: it does not" switch_and_block "$group" DMA "$edu"
ktap_test_result "the group gets its type back" set_group_type "$group" "$original"

ktap_finished
