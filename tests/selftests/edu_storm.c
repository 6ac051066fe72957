// SPDX-License-Identifier: GPL-2.0
/*
 * Let QEMU's edu devices write to an address that nobody has mapped for them,
 * all at once and time and again.
 *
 *   edu_storm ADDRESS ROUNDS BDF...
 */
#include <stdio.h>
#include <stdlib.h>

#include "edu.h"

#define TRANSFER	256
#define MAX_DEVICES	256

int main(int argc, char **argv)
{
	struct edu devices[MAX_DEVICES];
	const int count = argc - 3;
	uint64_t address;
	long rounds;

	if (argc < 4 || count > MAX_DEVICES) {
		fprintf(stderr, "usage: edu_storm ADDRESS ROUNDS BDF...\n");
		return EXIT_FAILURE;
	}
	address = strtoull(argv[1], NULL, 0);
	rounds = strtol(argv[2], NULL, 0);

	for (int i = 0; i < count; i++) {
		if (edu_open_sysfs(&devices[i], argv[i + 3]))
			return EXIT_FAILURE;
	}
	while (rounds--) {
		for (int i = 0; i < count; i++) {
			if (edu_start_write(&devices[i], address, TRANSFER))
				return EXIT_FAILURE;
		}
		for (int i = 0; i < count; i++) {
			if (edu_wait(&devices[i]))
				return EXIT_FAILURE;
		}
	}
	return EXIT_SUCCESS;
}
