#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Every IOMMU group has the type that the command line asks for.
#
#   group_types.sh [TYPE]
#
# TYPE is what all groups have to be: identity, DMA or DMA-FQ. Without it, the
# command line decides; it says nothing of the default chosen at compile time.

DIR=$(dirname "$(realpath "$0")")
. "$DIR/lib.sh"

type_of_command_line() {
	if grep -qw iommu.passthrough=1 /proc/cmdline; then
		echo identity
	elif grep -qw iommu.strict=1 /proc/cmdline; then
		echo DMA
	else
		echo DMA-FQ
	fi
}

has_disk() {
	disks=$(translated_disks | tr '\n' ' ')
	ktap_print_msg "disks behind an IOMMU: ${disks:-none}"
	[ -n "$disks" ]
}

expected=${1:-$(type_of_command_line)}
groups=$(all_groups)

ktap_print_header
[ -n "$groups" ] || skip_all "no IOMMU group"
# shellcheck disable=SC2086 # one word per group
set -- $groups
ktap_set_plan $(($# + 1))

for group in $groups; do
	type=$(group_type "$group")
	description="group $group is $expected ($(group_devices "$group"))"
	if [ "$type" = "$expected" ]; then
		ktap_test_pass "$description"
	else
		ktap_print_msg "its type is $type"
		ktap_test_fail "$description"
	fi
done

ktap_test_result "a disk is behind an IOMMU" has_disk

ktap_finished
