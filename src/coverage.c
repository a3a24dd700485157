// SPDX-License-Identifier: GPL-2.0
/*
 * Which blocks of the Rust code were reached, by any task: built into the module with
 * ROVL_COVERAGE=1 only. KCOV records one task at a time, and its children not at all; the
 * tests are many. So the module brings its own __sanitizer_cov_trace_pc(), which the
 * instrumented code of the module finds before the kernel's.
 */

#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

#define RANGE (1L << 21)

/* By distance from the function below: 1 is reached, 2 is told as well. */
static u8 blocks[RANGE];

void __sanitizer_cov_trace_pc(void);
void notrace __sanitizer_cov_trace_pc(void)
{
	long at = (long)(_RET_IP_ - (unsigned long)__sanitizer_cov_trace_pc) + RANGE / 2;

	if (at >= 0 && at < RANGE && !READ_ONCE(blocks[at]))
		WRITE_ONCE(blocks[at], 1);
}

/* Distances, as many as a page holds; read until there are no more. */
static int coverage_get(char *buffer, const struct kernel_param *kp)
{
	int len = 0;
	long at;

	for (at = 0; at < RANGE && len < PAGE_SIZE - 16; at++) {
		if (READ_ONCE(blocks[at]) != 1)
			continue;
		WRITE_ONCE(blocks[at], 2);
		len += scnprintf(buffer + len, PAGE_SIZE - len, "%ld\n", at - RANGE / 2);
	}
	return len;
}

static const struct kernel_param_ops coverage_ops = { .get = coverage_get };
module_param_cb(coverage, &coverage_ops, NULL, 0400);
MODULE_PARM_DESC(coverage, "Reached blocks, as distances from __sanitizer_cov_trace_pc");
