// SPDX-License-Identifier: GPL-2.0
/*
 * Boot another kernel from this one: at once, or when this one panics.
 *
 *   kexec_boot [--panic] KERNEL INITRAMFS COMMAND-LINE
 *
 * INITRAMFS may be "-" for none. At once, devices are shut down as on a reboot;
 * on a panic they are not. For a panic, the command line of this kernel has to
 * reserve memory: crashkernel=.
 */
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	unsigned long flags = 0;
	int kernel, initramfs = -1;
	bool on_panic;

	on_panic = argc > 1 && !strcmp(argv[1], "--panic");
	if (on_panic) {
		flags |= KEXEC_FILE_ON_CRASH;
		argc--;
		argv++;
	}
	if (argc != 4) {
		fprintf(stderr, "usage: kexec_boot [--panic] KERNEL INITRAMFS COMMAND-LINE\n");
		return EXIT_FAILURE;
	}

	kernel = open(argv[1], O_RDONLY);
	if (kernel < 0) {
		perror(argv[1]);
		return EXIT_FAILURE;
	}
	if (!strcmp(argv[2], "-")) {
		flags |= KEXEC_FILE_NO_INITRAMFS;
	} else {
		initramfs = open(argv[2], O_RDONLY);
		if (initramfs < 0) {
			perror(argv[2]);
			return EXIT_FAILURE;
		}
	}

	if (syscall(SYS_kexec_file_load, kernel, initramfs, strlen(argv[3]) + 1, argv[3], flags)) {
		perror("kexec_file_load");
		return EXIT_FAILURE;
	}
	if (on_panic)
		return EXIT_SUCCESS;
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	perror("reboot");
	return EXIT_FAILURE;
}
