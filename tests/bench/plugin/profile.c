// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of QEMU's: how often was each instruction of the guest executed?
 *
 *   -plugin profile.so,start=ADDRESS,out=FILE
 *
 * It counts from the first time on that the instruction at ADDRESS is executed.
 * When the guest ends, the file has a line "address count" for each instruction.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu-plugin.h"

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

/* A hash table with open addressing; a small guest has fewer instructions. */
#define SLOTS_SHIFT	22
#define SLOTS		(1UL << SLOTS_SHIFT)

static struct {
	uint64_t address, count;
} *slots;

static uint64_t start;
static const char *out;
static bool is_started;

static uint64_t *count_of(uint64_t address)
{
	uint64_t at = (address * 0x9e3779b97f4a7c15ULL) >> (64 - SLOTS_SHIFT);

	while (slots[at].address && slots[at].address != address)
		at = (at + 1) % SLOTS;
	slots[at].address = address;
	return &slots[at].count;
}

static void begin(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	for (size_t i = 0; !is_started && i < SLOTS; i++)
		slots[i].count = 0;
	is_started = true;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	(void)id;
	for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t address = qemu_plugin_insn_vaddr(insn);

		if (address == start)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, begin,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
		qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64,
							   count_of(address), 1);
	}
}

static void ended(qemu_plugin_id_t id, void *data)
{
	FILE *file = fopen(out, "w");

	(void)id;
	(void)data;
	if (!file) {
		perror(out);
		return;
	}
	for (size_t i = 0; i < SLOTS; i++) {
		if (slots[i].count)
			fprintf(file, "%lx %lu\n", slots[i].address, slots[i].count);
	}
	fclose(file);
}

__attribute__((visibility("default")))
int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "start=", 6))
			start = strtoull(argv[i] + 6, NULL, 16);
		if (!strncmp(argv[i], "out=", 4))
			out = strdup(argv[i] + 4);
	}
	slots = calloc(SLOTS, sizeof(*slots));
	if (!slots || !out)
		return 1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, ended, NULL);
	return 0;
}
