#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The reserved regions that sysfs shows for each group are in order, do not
# overlap, and hold a window for message signalled interrupts.

DIR=$(dirname "$(realpath "$0")")
. "$DIR/lib.sh"

# Fixed-width hexadecimal numbers: their order is that of the text.
regions_are_in_order() {
	awk '
	$1 > $2 { print "# reversed: " $0; bad = 1 }
	NR > 1 && $1 <= last { print "# overlaps the one before: " $0; bad = 1 }
	{ last = $2 }
	END { exit bad }' "$IOMMU_GROUPS/$1/reserved_regions"
}

has_msi_window() {
	grep -q ' msi$' "$IOMMU_GROUPS/$1/reserved_regions" && return
	sed 's/^/# has: /' "$IOMMU_GROUPS/$1/reserved_regions"
	return 1
}

groups=$(all_groups)

ktap_print_header
[ -n "$groups" ] || skip_all "no IOMMU group"
# shellcheck disable=SC2086 # one word per group
set -- $groups
ktap_set_plan $(($# * 2))

for group in $groups; do
	ktap_test_result "group $group: regions are in order" regions_are_in_order "$group"
	ktap_test_result "group $group: there is an MSI window" has_msi_window "$group"
done

ktap_finished
