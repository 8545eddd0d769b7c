#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Of KCSAN's reports those of the module fail a case, and no others."""
import os
import sys
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests/kmod"))
sys.path.insert(0, os.path.join(TOP, "scripts/lab"))
import console  # noqa: E402  (the paths are set just above)
import races  # noqa: E402

LINE = "[  465.260543] " + "=" * 66
SENT = " submit_bio_noacct+0x27c/0x760\n read_work+0x3db/0x400 [ebb]\n"


def report(head, first, second, end=LINE):
    return (f"{LINE}\n[  465.260543] BUG: KCSAN: {head}\n\nwrite to 0xff of 8 bytes by task 1211 on cpu 0:\n{first}\n"
            f"read to 0xff of 8 bytes by task 551 on cpu 1:\n{second}\n{end}\n")


RQ_INIT = " blk_mq_rq_ctx_init.constprop.0.isra.0+0x66/0x360\n"
SUBMIT = " blk_mq_submit_bio+0xa7a/0xb80\n"


class RacesTest(unittest.TestCase):
    def complained(self, log):
        return bool(console.complaints(races.without_foreign(log)))

    def test_one_of_the_module_stays(self):
        self.assertTrue(self.complained(report("data-race in mark [ebb] / drain [ebb]", " mark+0x1/0x2 [ebb]\n",
                                               " drain+0x1/0x2 [ebb]\n")))

    def test_one_in_the_block_layer_that_the_module_called_stays(self):
        self.assertTrue(self.complained(report("data-race in bio_endio / blk_mq_submit_bio", " bio_endio+0x1/0x2\n" + SENT,
                                               SUBMIT)))

    def test_one_of_the_kernel_goes(self):
        self.assertFalse(self.complained(report("data-race in bio_endio / blk_mq_submit_bio", " bio_endio+0x1/0x2\n",
                                                SUBMIT)))

    def test_a_known_one_goes_though_the_module_sent_the_bio(self):
        head = "data-race in blk_mq_rq_ctx_init.constprop.0.isra.0 / blk_mq_submit_bio"
        self.assertFalse(self.complained(report(head, RQ_INIT + SENT, SUBMIT + SENT)))
        head = "data-race in blk_mq_submit_bio / blk_mq_rq_ctx_init.isra.0"
        self.assertFalse(self.complained(report(head, SUBMIT + SENT, RQ_INIT)))

    def test_a_parent_that_is_sent_while_its_child_ends_goes_and_no_other_bio_does(self):
        head = "data-race in bio_endio / submit_bio_noacct_nocheck"
        ended, sent = " bio_endio+0x25/0x2e0\n", " submit_bio_noacct_nocheck+0x156/0x6a0\n"
        child = " ebb_complete_chained+0xfb/0x170 [ebb]\n ebb_write_done+0x1e4/0x230 [ebb]\n"
        self.assertFalse(self.complained(report(head, ended + child, sent)))
        self.assertTrue(self.complained(report(head, ended + " ebb_write_done+0x1e4/0x230 [ebb]\n", sent)))

    def test_so_it_does_where_nobody_saw_who_sent_it(self):
        def unseen(changed, caller="ebb_complete_chained+0xfb/0x170"):
            return (f"{LINE}\n[ 1843.668619] BUG: KCSAN: data-race in bio_endio+0x25/0x2e0\n\nrace at unknown origin, with read to "
                    f"0xff of 2 bytes by task 1588 on cpu 1:\n bio_endio+0x25/0x2e0\n {caller} [ebb]\n\nvalue changed: {changed}\n{LINE}\n")
        self.assertFalse(self.complained(unseen("0x0010 -> 0x0110")))
        self.assertTrue(self.complained(unseen("0x0010 -> 0x0030")))
        self.assertTrue(self.complained(unseen("0x0010 -> 0x0110", "ebb_write_done+0x1e4/0x230")))

    def test_one_of_a_function_with_itself_is_known_by_that_function(self):
        known, other = " __blk_mq_delay_run_hw_queue+0x75/0x2d0\n", " blk_mq_run_hw_queue+0x1/0x2\n"
        head = "data-race in {0} / {0}"
        self.assertFalse(self.complained(report(head.format("__blk_mq_delay_run_hw_queue"), known + SENT, known)))
        self.assertTrue(self.complained(report(head.format("blk_mq_run_hw_queue"), other + SENT, other)))

    def test_half_a_known_one_stays(self):
        self.assertTrue(self.complained(report("data-race in blk_mq_rq_ctx_init.isra.0 / witness_merge [ebb]",
                                               RQ_INIT, " witness_merge+0x1/0x2 [ebb]\n")))
        self.assertTrue(self.complained(report("data-race in blk_mq_submit_bio", SUBMIT, SUBMIT + SENT)))

    def test_what_stands_around_it_stays(self):
        known = report("data-race in blk_mq_rq_ctx_init / blk_mq_submit_bio", RQ_INIT + SENT, SUBMIT)
        self.assertIn("before\n", races.without_foreign("before\n" + known + "after\n"))
        self.assertIn("after", races.without_foreign("before\n" + known + "after\n"))
        self.assertTrue(self.complained(known + "WARNING: CPU: 0 PID: 1 at kmod/hook.c:1\n"))

    def test_one_that_is_cut_off_stays(self):
        self.assertTrue(self.complained(report("data-race in bio_endio / bio_endio", " a\n", " b\n", end="")))


if __name__ == "__main__":
    program = unittest.main(exit=False)
    failed = len(program.result.failures) + len(program.result.errors)
    print(f"{program.result.testsRun - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
