// SPDX-License-Identifier: GPL-2.0
/*
 * A QEMU plugin, for scripts/profile: how often each block of guest code ran
 * between two marks ("out=FILE"), and for scripts/cover: which code of modules ran
 * at all ("cover=FILE").
 *
 * The marks are long NOPs that no compiler makes, executed by the guest's user
 * space (tests/bench/src/profile.rs). Between START and STOP blocks are counted,
 * as often as the two occur; END writes "address executions instructions", a
 * line a block, a line "end" after the last, and begins anew.
 *
 * scripts/profile runs QEMU with one CPU: nothing is locked for it.
 *
 * Coverage needs no counting: QEMU translates a block when it is about to run. Each
 * time, "address size" is written, a line a block; stdio locks the file.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * What is used of qemu-plugin.h, which Debian does not package. These functions
 * are the same in all versions of the interface, but for the one below.
 */
#define EXPORT __attribute__((visibility("default")))
#define NO_REGS 0

struct tb;
struct insn;
typedef void callback(unsigned int cpu, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*cb)(uint64_t id, struct tb *tb));
void qemu_plugin_register_vcpu_tb_exec_cb(struct tb *tb, callback *cb, int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct insn *insn, callback *cb, int flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct tb *tb);
struct insn *qemu_plugin_tb_get_insn(const struct tb *tb, size_t index);
size_t qemu_plugin_insn_size(const struct insn *insn);

#if PLUGIN_VERSION >= 3
size_t qemu_plugin_insn_data(const struct insn *insn, void *to, size_t size);
#else
const void *qemu_plugin_insn_data(const struct insn *insn);
#endif

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

/* nop dword ptr [rax + MARK]: "rovl", "rovm", "rovn" in memory. */
enum mark { START = 'l', STOP, END };
#define NOP "\x0f\x1f\x80rov"
#define NOP_SIZE sizeof(NOP)

struct block {
	struct block *next;
	uint64_t address;
	uint64_t executions;
	size_t instructions;
};

/*
 * Code that is translated again has several blocks, and they are never freed,
 * since QEMU does not tell when one is dropped: the reader adds them up.
 */
static struct block *blocks;
static bool counting;
static FILE *out;

static void fail(const char *what)
{
	fprintf(stderr, "plugin: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void run_block(unsigned int cpu, void *data)
{
	struct block *block = data;

	block->executions += counting;
}

static void run_start(unsigned int cpu, void *data)
{
	counting = true;
}

static void run_stop(unsigned int cpu, void *data)
{
	counting = false;
}

static void run_end(unsigned int cpu, void *data)
{
	struct block *block;

	for (block = blocks; block; block = block->next) {
		if (!block->executions)
			continue;
		fprintf(out, "%llx %llu %zu\n", (unsigned long long)block->address,
			(unsigned long long)block->executions, block->instructions);
		block->executions = 0;
	}
	fprintf(out, "end\n");
	if (fflush(out))
		fail("the output file");
}

/* The last byte of a mark, or 0. */
static int mark_of(const struct insn *insn)
{
	unsigned char bytes[NOP_SIZE];

	if (qemu_plugin_insn_size(insn) != NOP_SIZE)
		return 0;
#if PLUGIN_VERSION >= 3
	if (qemu_plugin_insn_data(insn, bytes, NOP_SIZE) != NOP_SIZE)
		return 0;
#else
	memcpy(bytes, qemu_plugin_insn_data(insn), NOP_SIZE);
#endif
	return memcmp(bytes, NOP, NOP_SIZE - 1) ? 0 : bytes[NOP_SIZE - 1];
}

static void translated(uint64_t id, struct tb *tb)
{
	struct block *block = calloc(1, sizeof(*block));
	size_t i;

	if (!block)
		fail("a block");
	block->address = qemu_plugin_tb_vaddr(tb);
	block->instructions = qemu_plugin_tb_n_insns(tb);
	block->next = blocks;
	blocks = block;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, run_block, NO_REGS, block);
	for (i = 0; i < block->instructions; i++) {
		struct insn *insn = qemu_plugin_tb_get_insn(tb, i);
		callback *cb;

		switch (mark_of(insn)) {
		case START:
			cb = run_start;
			break;
		case STOP:
			cb = run_stop;
			break;
		case END:
			cb = run_end;
			break;
		default:
			continue;
		}
		qemu_plugin_register_vcpu_insn_exec_cb(insn, cb, NO_REGS, NULL);
	}
}

/* Where x86-64 has modules. */
#define MODULES_START 0xffffffffa0000000ULL
#define MODULES_END 0xffffffffff000000ULL

static void covered(uint64_t id, struct tb *tb)
{
	uint64_t address = qemu_plugin_tb_vaddr(tb);
	size_t i, size = 0, n = qemu_plugin_tb_n_insns(tb);

	if (address < MODULES_START || address >= MODULES_END)
		return;
	for (i = 0; i < n; i++)
		size += qemu_plugin_insn_size(qemu_plugin_tb_get_insn(tb, i));
	if (fprintf(out, "%llx %zu\n", (unsigned long long)address, size) < 0)
		fail("the output file");
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	bool cover = argc == 1 && !strncmp(argv[0], "cover=", 6);
	const char *path;

	if (argc != 1 || (!cover && strncmp(argv[0], "out=", 4))) {
		fprintf(stderr, "plugin: usage: -plugin FILE,out=FILE or -plugin FILE,cover=FILE\n");
		return 1;
	}
	path = strchr(argv[0], '=') + 1;
	out = fopen(path, "w");
	if (!out) {
		perror(path);
		return 1;
	}
	/* A guest that is lost has its file cut off at a line. */
	if (cover)
		setvbuf(out, NULL, _IOLBF, BUFSIZ);
	qemu_plugin_register_vcpu_tb_trans_cb(id, cover ? covered : translated);
	return 0;
}
