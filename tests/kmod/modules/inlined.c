// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes submit_bio() go past the entry of submit_bio_noacct(), as it does where the compiler has
 * put a copy of that function into it: each call of it there is a breakpoint, from which the
 * function is entered behind what ftrace patches. ENODEV: there is no such call, it is so already.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/string.h>
#include <asm/text-patching.h>

#include "compat.h"

#define CALL		0xe8
#define JUMP		0xe9
#define INSN_SIZE	5	/* of either, and of what ftrace patches */
#define MOST_CALLS	4
#define MOST_CODE	1024	/* of submit_bio() */

static const u8 endbr[] = { 0xf3, 0x0f, 0x1e, 0xfa };

static struct kprobe calls[MOST_CALLS];
static unsigned int nr_calls;

static u8 *behind_entry(void)
{
	u8 *entry = (u8 *)submit_bio_noacct;

	return entry + (memcmp(entry, endbr, sizeof(endbr)) ? 0 : sizeof(endbr)) + INSN_SIZE;
}

static int go_past(struct kprobe *call, struct pt_regs *regs)
{
	if (call->opcode == CALL)
		int3_emulate_push(regs, (unsigned long)call->addr + INSN_SIZE);
	regs->ip = (unsigned long)behind_entry();
	return 1;
}

/* With one, no jump ever takes the breakpoint's place, which could not go elsewhere. */
static void nothing(struct kprobe *call, struct pt_regs *regs, unsigned long flags)
{
}

static void forget_calls(void)
{
	while (nr_calls)
		unregister_kprobe(&calls[--nr_calls]);
}

static bool is_call(const u8 *code)
{
	s32 offset;

	memcpy(&offset, code + 1, sizeof(offset));
	return (*code == CALL || *code == JUMP) &&
	       code + INSN_SIZE + offset == (u8 *)submit_bio_noacct;
}

static int __init inlined_init(void)
{
	const u8 *code = (const u8 *)submit_bio;
	int err;

	for (; code < (const u8 *)submit_bio + MOST_CODE && nr_calls < MOST_CALLS; code++) {
		if (!is_call(code))
			continue;
		calls[nr_calls].addr = (kprobe_opcode_t *)code;
		calls[nr_calls].pre_handler = go_past;
		calls[nr_calls].post_handler = nothing;
		err = register_kprobe(&calls[nr_calls]);
		if (err) {
			forget_calls();
			return err;
		}
		nr_calls++;
	}
	return nr_calls ? 0 : -ENODEV;
}

static void __exit inlined_exit(void)
{
	forget_calls();
}

module_init(inlined_init);
module_exit(inlined_exit);

MODULE_DESCRIPTION("Test: submit_bio() that does not come by the entry of submit_bio_noacct()");
MODULE_LICENSE("GPL");
