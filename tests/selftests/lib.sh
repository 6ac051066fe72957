# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# What the virtio-iommu guest tests share. Each test sets DIR to its directory
# and sources this file. Mind that ktap_test_result splits the words of the
# command it is given.

# shellcheck source=/dev/null
. "$DIR/../kselftest/ktap_helpers.sh"

IOMMU_GROUPS=/sys/kernel/iommu_groups
PCI_DEVICES=/sys/bus/pci/devices

# The numbers of all groups
all_groups() {
	# shellcheck disable=SC2012 # the names are numbers
	ls "$IOMMU_GROUPS" | sort -n
}

# group_of BDF: the number of the device's group; fails if it has none
group_of() {
	[ -e "$PCI_DEVICES/$1/iommu_group" ] || return 1
	basename "$(readlink "$PCI_DEVICES/$1/iommu_group")"
}

# group_type GROUP: identity, DMA, DMA-FQ, blocked, ...
group_type() {
	read -r type < "$IOMMU_GROUPS/$1/type"
	echo "$type"
}

# group_devices GROUP: its devices on one line
group_devices() {
	# shellcheck disable=SC2012 # sysfs names hold no spaces
	ls "$IOMMU_GROUPS/$1/devices" | tr '\n' ' ' | sed 's/ $//'
}

# set_group_type GROUP TYPE; prints what is wrong
set_group_type() {
	if ! echo "$2" > "$IOMMU_GROUPS/$1/type"; then
		ktap_print_msg "group $1 refuses type $2"
		return 1
	fi
	if [ "$(group_type "$1")" != "$2" ]; then
		ktap_print_msg "group $1 was set to $2, and is $(group_type "$1")"
		return 1
	fi
}

# types_of_others GROUP: "number:type" of every other group, on one line
types_of_others() {
	for other in $(all_groups); do
		[ "$other" = "$1" ] || printf '%s:%s ' "$other" "$(group_type "$other")"
	done
}

# remember_others GROUP; others_kept_types then tells whether they still are what they were
OTHERS_GROUP=
OTHERS_TYPES=
remember_others() {
	OTHERS_GROUP=$1
	OTHERS_TYPES=$(types_of_others "$1")
}

others_kept_types() {
	now=$(types_of_others "$OTHERS_GROUP")
	[ "$now" = "$OTHERS_TYPES" ] && return
	ktap_print_msg "the other groups were $OTHERS_TYPES, and are $now"
	return 1
}

# pci_of_disk DISK: the address of the PCI device that a block device belongs to
pci_of_disk() {
	address=
	for part in $(realpath "/sys/block/$1" | tr '/' ' '); do
		case $part in
		[0-9a-f]*:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f].[0-7]) address=$part ;;
		esac
	done
	echo "$address"
}

# The disks behind an IOMMU, whole ones
translated_disks() {
	for path in /sys/block/vd* /sys/block/nvme*n*; do
		[ -e "$path" ] || continue
		disk=${path##*/}
		group_of "$(pci_of_disk "$disk")" > /dev/null && echo "$disk"
	done
}

# find_pci VENDOR DEVICE: the address of the first such device; fails if there is none
find_pci() {
	for path in "$PCI_DEVICES"/*; do
		read -r vendor < "$path/vendor"
		read -r device < "$path/device"
		if [ "$vendor" = "$1" ] && [ "$device" = "$2" ]; then
			basename "$path"
			return 0
		fi
	done
	return 1
}

# QEMU's edu device
find_edu() {
	find_pci 0x1234 0x11e8
}

# driver_of BDF: the name of the bound driver; fails if there is none
driver_of() {
	[ -e "$PCI_DEVICES/$1/driver" ] || return 1
	basename "$(readlink "$PCI_DEVICES/$1/driver")"
}

# unbind BDF and bind BDF DRIVER
unbind() {
	echo "$1" > "$PCI_DEVICES/$1/driver/unbind"
}

bind() {
	echo "$1" > "/sys/bus/pci/drivers/$2/bind"
}

# uptime in seconds
uptime_seconds() {
	read -r uptime _ < /proc/uptime
	echo "${uptime%%.*}"
}

# wait_until SECONDS COMMAND...: repeat the command until it succeeds
wait_until() {
	deadline=$(($(uptime_seconds) + $1))
	shift
	until "$@"; do
		if [ "$(uptime_seconds)" -ge "$deadline" ]; then
			ktap_print_msg "timed out waiting for: $*"
			return 1
		fi
		sleep 0.05
	done
}

# mark_log puts a mark into the kernel log; log_since_mark prints what came after
LOG_MARK=
mark_log() {
	LOG_MARK="virtio_iommu selftest $$ $(cut -d' ' -f1 /proc/uptime)"
	echo "$LOG_MARK" > /dev/kmsg
}

log_since_mark() {
	dmesg | sed "1,/$LOG_MARK/d"
}

# fault_names BDF: a fault reported since the mark names the device. Reports are
# rate-limited, so the faults have to be provoked until one is seen.
fault_names() {
	log_since_mark | grep -i fault | grep -q "$1"
}

# compare_disk DISK PATTERN BLOCK-SIZE: write the file, read it back, compare, all
# past the page cache. What the disk held there is lost.
compare_disk() {
	read_back=$(mktemp)
	result=0
	dd if="$2" of="/dev/$1" bs="$3" oflag=direct conv=fsync status=none || result=1
	size=$(stat -c %s "$2")
	dd if="/dev/$1" of="$read_back" bs="$3" count=$((size / $3)) iflag=direct \
		status=none || result=1
	if ! cmp "$2" "$read_back"; then
		ktap_print_msg "$1: what was read is not what was written"
		result=1
	fi
	rm -f "$read_back"
	return "$result"
}

# random_file SIZE: a new file of that many bytes (a multiple of 64 KiB); prints its name
random_file() {
	name=$(mktemp)
	dd if=/dev/urandom of="$name" bs=65536 count=$(($1 / 65536)) status=none
	echo "$name"
}

skip_all() {
	ktap_skip_all "$@"
	exit "$KSFT_SKIP"
}
