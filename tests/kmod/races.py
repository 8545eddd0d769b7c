# SPDX-License-Identifier: Apache-2.0
"""Which of KCSAN's reports are the module's affair."""
import re

# Races that the kernel has with itself whoever sends the bio: the functions of both accesses, and one that
# has to stand in the report besides.
#
# blk_mq_submit_bio() of 6.1 leaves the SRCU of a queue that may sleep (a memory backed null_blk) by rq->q,
# after the request was sent: it may be over, and somebody else's, by then. All requests of a tag have one
# queue there, so the value is the same. Later kernels remember the queue.
#
# What a file of statistics tells of requests in flight (their state and partition), and the turn of the CPUs that run a queue
# (next_cpu), blk-mq reads without a lock, and says that this does not matter.
#
# A parent of a chain is sent after its children. Where one of those is over by then, bio_endio() of the parent
# reads in bi_flags whether it is chained while submit_bio_noacct_nocheck() adds BIO_TRACE_COMPLETION. The
# kernel's own bio_chain_endio() does the same; a bio that is no parent must not be over so early.
KNOWN = {frozenset(("blk_mq_rq_ctx_init", "blk_mq_submit_bio")): "",
         frozenset(("blk_mq_check_inflight", "blk_mq_start_request")): "",
         frozenset(("blk_mq_check_inflight", "blk_mq_submit_bio")): "",
         frozenset(("__blk_mq_delay_run_hw_queue",)): "",
         frozenset(("bio_endio", "submit_bio_noacct_nocheck")): "ebb_complete_chained"}
# The last one, where KCSAN saw the value change and not who changed it: the bits that may have.
TRACE_COMPLETION = 0x100


def is_flag_of_parent(report):
    """Whether all that is known is that a parent's flag came while the end of a child looked at it."""
    changed = re.search(r"value changed: (0x[0-9a-f]+) -> (0x[0-9a-f]+)", "\n".join(report))
    return (re.search(r"BUG: KCSAN: data-race in bio_endio\+\S+$", report[0]) is not None and changed is not None
            and any("ebb_complete_chained" in line for line in report)
            and int(changed.group(1), 16) ^ int(changed.group(2), 16) == TRACE_COMPLETION)


def is_known(report):
    """Whether a report is one of these; what a compiler appends to a function's name does not count."""
    found = re.search(r"BUG: KCSAN: data-race in (\S+) / (\S+)", report[0])
    frame = found and KNOWN.get(frozenset(name.split(".")[0] for name in found.groups()))
    return is_flag_of_parent(report) or (frame is not None and any(frame in line for line in report))


def without_foreign(log):
    """The log without the reports in which nothing of ebb.ko takes part, or that are known: the kernel's."""
    kept, report = [], None
    for line in log.splitlines():
        if report is None and "BUG: KCSAN: " in line:
            report = []
        if report is None:
            kept.append(line)
            continue
        report.append(line)
        if re.search(r"={60}", line):
            if any("[ebb]" in entry for entry in report) and not is_known(report):
                kept += report
            report = None
    return "\n".join(kept + (report or []))
