// SPDX-License-Identifier: GPL-2.0
/*
 * measure NAME PROGRAM [ARGUMENT...]
 *
 * Run a program, and tell what the whole of it took.
 */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mark.h"

int main(int argc, char **argv)
{
	uint64_t before, after;
	int status;
	pid_t pid;

	if (argc < 3) {
		fprintf(stderr, "usage: measure NAME PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	mark_begin();
	before = counter();
	pid = vfork();
	if (!pid) {
		execvp(argv[2], argv + 2);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		perror(argv[2]);
		return 1;
	}
	after = counter();
	mark_end();
	printf("bench: %s total=%llu\n", argv[1], (unsigned long long)(after - before));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
