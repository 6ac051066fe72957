// SPDX-License-Identifier: GPL-2.0
/*
 * An interrupt that a device assigned to userspace signals by a message arrives.
 * The message is a write of the device's, translated as any other where the
 * interrupt controller is behind the IOMMU.
 *
 *   vfio_msi type1|iommufd BDF
 *
 * BDF is a QEMU edu device, bound to vfio-pci.
 */
#include <poll.h>
#include <unistd.h>

#include "assigned.h"
#include "edu.h"
#include "kselftest.h"

#define TIMEOUT_MS	20000

static bool interrupt_arrives(const struct assigned *assigned, const struct edu *edu)
{
	struct pollfd event = { .events = POLLIN };

	event.fd = assigned_enable_msi(assigned);
	if (event.fd < 0)
		return false;
	edu_raise_interrupt(edu);
	poll(&event, 1, TIMEOUT_MS);
	edu_lower_interrupt(edu);
	close(event.fd);
	return event.revents & POLLIN;
}

int main(int argc, char **argv)
{
	struct assigned assigned = {};
	struct edu edu;

	ksft_print_header();
	if (argc != 3)
		ksft_exit_fail_msg("usage: vfio_msi type1|iommufd BDF\n");
	ksft_set_plan(1);

	assigned.ops = assigned_find(argv[1]);
	if (!assigned.ops)
		ksft_exit_fail_msg("no such interface: %s\n", argv[1]);
	if (assigned.ops->open(&assigned, argv[2]))
		ksft_exit_fail_msg("%s cannot be assigned\n", argv[2]);
	edu.registers = assigned_start(&assigned);
	if (!edu.registers || edu_check(&edu))
		ksft_exit_fail_msg("%s cannot be used\n", argv[2]);

	ksft_test_result(interrupt_arrives(&assigned, &edu), "an interrupt arrives\n");
	ksft_finished();
}
