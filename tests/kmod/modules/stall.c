// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps the first task of a name that comes to a function there until it is let go:
 *
 *	insmod stall.ko symbol=FUNCTION comm=NAME
 *	/sys/module/stall/parameters/waiting	1 while it stands there
 *	echo 1 >/sys/module/stall/parameters/go
 *
 * So a test makes two tasks meet in a window of a few instructions, every time. It spins, as the
 * function may be one that must not sleep; after a minute it goes on by itself.
 */
#include <linux/atomic.h>
#include <linux/kprobes.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/string.h>

static char *symbol = "";
module_param(symbol, charp, 0444);
static char *comm = "";
module_param(comm, charp, 0444);
static int waiting;
module_param(waiting, int, 0444);
static int go;
module_param(go, int, 0644);

static atomic_t caught = ATOMIC_INIT(0);

static int stall(struct kprobe *p, struct pt_regs *regs)
{
	ktime_t end;

	if (strcmp(current->comm, comm) || atomic_xchg(&caught, 1))
		return 0;
	/* Not by mdelay(): a machine that was starved when it booted has it far too short. */
	end = ktime_add_ms(ktime_get(), 60000);
	WRITE_ONCE(waiting, 1);
	while (!READ_ONCE(go) && ktime_before(ktime_get(), end))
		cpu_relax();
	WRITE_ONCE(waiting, 0);
	return 0;
}

static struct kprobe probe = {
	.pre_handler = stall,
};

static int __init stall_init(void)
{
	probe.symbol_name = symbol;
	return register_kprobe(&probe);
}

static void __exit stall_exit(void)
{
	unregister_kprobe(&probe);
}

module_init(stall_init);
module_exit(stall_exit);

MODULE_DESCRIPTION("Test: keeps a task in a function until it is let go");
MODULE_LICENSE("GPL");
