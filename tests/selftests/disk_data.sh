#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Data moves unharmed to and from each disk behind an IOMMU, in requests of
# several sizes. What the first MiB of the disks held is lost.
#
#   disk_data.sh [DISK...]

DIR=$(dirname "$(realpath "$0")")
. "$DIR/lib.sh"

BLOCK_SIZES="4096 65536 1048576"

disks=${*:-$(translated_disks)}

ktap_print_header
[ -n "$disks" ] || skip_all "no disk behind an IOMMU"
# shellcheck disable=SC2086 # one word per disk
set -- $disks
ktap_set_plan $(($# * 3))

for disk in $disks; do
	for block_size in $BLOCK_SIZES; do
		pattern=$(random_file 1048576)
		ktap_test_result "$disk: data compares equal, in requests of $block_size" \
			compare_disk "$disk" "$pattern" "$block_size"
		# The last one is what the disk holds in the end.
		ktap_print_msg "$disk holds $(sha256sum < "$pattern" | cut -d' ' -f1)"
		rm -f "$pattern"
	done
done

ktap_finished
