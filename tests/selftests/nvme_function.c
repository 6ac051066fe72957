// SPDX-License-Identifier: GPL-2.0
/*
 * Make a virtual function of an NVMe drive usable, as the specification wants it
 * (Virtualization Management command).
 *
 *   nvme_function DRIVE release             take queues and interrupts from the
 *                                           drive; in force after a reset of it
 *   nvme_function DRIVE online CONTROLLER   give two queues and an interrupt to
 *                                           a function, and put it into service
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/nvme_ioctl.h>

#define VIRT_MGMT	0x1c

enum resource { QUEUES, INTERRUPTS };

enum action {
	ALLOCATE_TO_PRIMARY = 1,
	ASSIGN_TO_SECONDARY = 8,
	ONLINE = 9,
};

static int manage(int drive, unsigned int controller, enum resource resource, enum action action,
		  unsigned int number)
{
	struct nvme_admin_cmd command = {
		.opcode = VIRT_MGMT,
		.cdw10 = controller << 16 | resource << 8 | action,
		.cdw11 = number,
	};
	const int status = ioctl(drive, NVME_IOCTL_ADMIN_CMD, &command);

	if (status < 0)
		perror("NVME_IOCTL_ADMIN_CMD");
	else if (status > 0)
		fprintf(stderr, "action %d, controller %u: status %#x\n", action, controller,
			status);
	return status;
}

int main(int argc, char **argv)
{
	unsigned int controller;
	int drive, failed;

	if (argc < 3) {
		fprintf(stderr, "usage: nvme_function DRIVE release | online CONTROLLER\n");
		return EXIT_FAILURE;
	}
	drive = open(argv[1], O_RDWR);
	if (drive < 0) {
		perror(argv[1]);
		return EXIT_FAILURE;
	}
	if (argc == 3 && !strcmp(argv[2], "release")) {
		failed = manage(drive, 0, QUEUES, ALLOCATE_TO_PRIMARY, 0) ||
			 manage(drive, 0, INTERRUPTS, ALLOCATE_TO_PRIMARY, 0);
	} else if (argc == 4 && !strcmp(argv[2], "online")) {
		controller = strtoul(argv[3], NULL, 0);
		failed = manage(drive, controller, INTERRUPTS, ASSIGN_TO_SECONDARY, 1) ||
			 manage(drive, controller, QUEUES, ASSIGN_TO_SECONDARY, 2) ||
			 manage(drive, controller, QUEUES, ONLINE, 0);
	} else {
		fprintf(stderr, "unknown: %s\n", argv[2]);
		failed = 1;
	}
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
