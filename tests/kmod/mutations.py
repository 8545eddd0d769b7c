#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants faults in copies of the module and demands that the named case fails for each.

    tests/kmod/mutations.py [--kernel 6.1] [--only NAME]...
    tests/kmod/mutations.py --model ...     those that the model test has to find without being told
    tests/kmod/mutations.py --model-restarts ...       ... and the model test over restarts

A test that passes with the fault in place proves nothing. The product's sources are not touched:
each fault is one replacement in a copy, and a replacement that does not apply is an error too.
"""
import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LAB = os.environ.get("EBB_LAB", os.path.join(TOP, "scripts/lab"))

MODEL_RESTARTS = "model_restarts:1..10"  # seeds
# What a case, or the runner, says of the reason for which it failed.
WHY = re.compile(r"FAILED(: | seed )|BUG: |WARNING: |LOST BY THE MODULE|machine: |does not end")

# name: (file, text, replacement, case that must fail[, kernel where it runs, if not on every one])
MUTATIONS = {
    "or-back-void": ("pass.c",
                     "\t\tebb_map_merge(current_map(disk), ebb_pass_map(disk));\n",
                     "\t\tebb_map_clear(ebb_pass_map(disk));\n", "or-back"),
    "or-back-released": ("pass.c",
                         "\t\tebb_map_merge(current_map(disk), &disk->released);\n",
                         "\t\tebb_map_clear(&disk->released);\n", "or-back"),
    "or-back-unconfirmed": ("pass.c",
                            "\t\tebb_map_merge(current_map(disk), &disk->unconfirmed);\n",
                            "\t\tebb_map_clear(&disk->unconfirmed);\n", "or-back"),
    "witness-passthrough": ("witness.c",
                            "\t\tif (!passthrough_is_harmless(disk->bus, rq)) {\n",
                            "\t\tif (!passthrough_is_harmless(disk->bus, rq) && disk->gone) {\n", "sg-io"),
    "witness-severe": ("witness.c", "\tcase INQUIRY:\n", "", "sg-io"),
    "no-substitution": ("image.c",
                        "\tif (!origin->bi_status) {\n\t\tsubstitute(disk, origin, false);\n",
                        "\tif (!origin->bi_status) {\n", "slow-reader-preserves"),
    "no-preserve": ("preserve.c",
                    "\tif (!ebb_pass_is_live(disk->group) || !is_frozen(disk, w))\n",
                    "\tif (!ebb_pass_is_live(disk->group) || !is_frozen(disk, w) || true)\n",
                    "slow-reader-preserves"),
    "no-drain": ("pass.c",
                 "\treturn gen == READ_ONCE(disk->cut_gen) + 1 && "
                 "ebb_write_landed(disk, gen % EBB_SLOTS);\n",
                 "\treturn gen == READ_ONCE(disk->cut_gen) + 1;\n",
                 "stamps-generations-overlap"),
    "no-deadline": ("preserve.c",
                    "\t\tif (age >= limit)\n\t\t\tebb_pass_void",
                    "\t\tif (age >= limit * 1000)\n\t\t\tebb_pass_void", "deadline"),
    "held-of-earlier-pass": ("preserve.c",
                             "\tif (!is_preserving(disk) || w->gen <= READ_ONCE(disk->cut_gen))\n",
                             "\tif (!is_preserving(disk))\n", "next-pass-before-release"),
    "cut-race-unseen": ("write.c",
                        "\t\tstray_mark(disk, gen, first, last);\n", "", "cut-race"),
    "failed-write-clean": ("write.c",
                           "\tmark(disk, w->first, w->last, false);\n", "",
                           "write-error"),
    "gate-not-looked-for": ("write.c",
                            "\tif (unlikely(ebb_disk_looks(disk, EBB_LOOK_GATE)))\n"
                            "\t\treturn admit_later(disk, bio);\n", "", "gate-two-machines"),
    "gate-not-seen-by-all": ("gate.c", "\tsynchronize_rcu_expedited();\n", "", "gate-every-cpu"),
    "gate-deadline-keeps-cut": ("gate.c",
                                "\t\tvoided = break_locked(group, EBB_VOID_GATE_DEADLINE);\n",
                                "\t\tlet_go(group);\n", "gate-deadline"),
    "gate-cut-too-late": ("gate.c", "\tif (!gate->closed || gate->id != id)\n\t\treturn -ESTALE;\n",
                          "", "gate-deadline"),
    "coarse-lost": ("map.c",
                    "\t\t\tset_bit(word / EBB_CHUNK_WORDS, map->coarse);\n\t\t\tword =",
                    "\t\t\tword =", "out-of-memory", "debug"),
    "leaves-kept": ("map.c", "\t\told = let_go(map, &map->leaf[i], old);\n", "", "memory"),
    "witness-blind": ("witness.c",
                      "\t\tif (likely(came_through(disk, bio)))\n",
                      "\t\tif (likely(came_through(disk, bio)) || !disk->gone)\n", "multipath"),
    "witness-above": ("witness.c",
                      "\t\t\tif (disk->gd != gd && disk->is_stacked) {\n",
                      "\t\t\tif (disk->gd != gd && disk->is_stacked && disk->gone) {\n",
                      "multipath"),
    "same-untracked": ("write.c", "\tcase REQ_OP_WRITE_SAME:\n", "", "write-same", "5.10"),
    "resize-unseen": ("disk.c", "\t} else if (!disk->gone && get_capacity(disk->gd) != disk->sectors) {\n",
                      "\t} else if (!disk->gone && get_capacity(disk->gd) == 0) {\n", "model"),
    "erased-untracked": ("write.c", "\tcase REQ_OP_SECURE_ERASE:\n\tcase REQ_OP_WRITE_ZEROES:\n",
                         "\tcase REQ_OP_WRITE_ZEROES:\n", "secure-erase"),
    "zone-reset-unseen": ("write.c", "\t\tif (bio_op(bio) != REQ_OP_WRITE)\n\t\t\tis_tracked(disk, bio);\n\t\telse if (",
                          "\t\tif (", "zoned-below"),
    "zone-finish-unseen": ("hook.c", "!ebb_op_changes(bio_op(bio))", "!op_is_write(bio_op(bio))", "zoned-below",
                           "5.10"),
    "polled-keeps-cache": ("compat/compat.h",
                           "#define ebb_bio_clear_polled(bio)\tbio_clear_polled(bio)\n",
                           "#define ebb_bio_clear_polled(bio)\t"
                           "((void)((bio)->bi_opf &= ~REQ_POLLED))\n", "polled", "6.1"),
    "divertible": ("hook.c",
                   ".flags\t= FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT",
                   ".flags\t= FTRACE_OPS_FL_PERMANENT", "diverted"),
    "zoned-taken": ("disk.c", "\tif (bdev_is_zoned(bdev))\n",
                    "\tif (bdev_is_zoned(bdev) && !gd)\n", "refused-disks"),
    "anybody": ("netlink.c",
                "\tif (!netlink_capable(skb, CAP_SYS_ADMIN))\n\t\treturn refuse",
                "\tif (!netlink_capable(skb, CAP_NET_ADMIN))\n\t\treturn refuse", "interface"),
    "entry-unlooked": ("disk.c", "\tif (ebb_hook_widen())\n", "\tif (disk->gd)\n", "entry-inlined"),
    "probe-unseen": ("write.c", "\t\telse if (READ_ONCE(disk->probing))\n",
                     "\t\telse if (READ_ONCE(disk->gone))\n", "interface"),
    "hook-blind": ("hook.c",
                   "\tif (!ebb_op_changes(bio_op(bio)))\n",
                   "\tif (!ebb_op_changes(bio_op(bio)) || (bio->bi_iter.bi_sector & 64))\n",
                   "compare-engines"),
    "mark-all-at-once": ("disk.c", "& passed_by && queue_is_mq(disk->gd->queue))\n",
                         "& passed_by && !disk->gd)\n", "mark-all-waits"),
    # Some instructions wide, so found by chance, and not demanded of the model test.
    "generation-read-once": ("write.c", "\treturn READ_ONCE(disk->group->gen) == gen;\n",
                             "\treturn true;\n", "cut-race"),
    # What nothing but the model test looks for.
    "partition-start": ("compat/compat.h",
                        "\treturn bio_flagged(bio, BIO_REMAPPED) ? sector : "
                        "sector + bio->bi_bdev->bd_start_sect;\n", "\treturn sector;\n", "model"),
    "cut-forgets": ("pass.c", "\tcut(group);\n",
                    "\tlist_for_each_entry(disk, &group->disks, member)\n"
                    "\t\tebb_map_clear(&disk->map[group->gen & 1]);\n\tcut(group);\n", "model"),
    "held-go-at-once": ("preserve.c",
                        "\tif (!is_preserving(disk) || w->gen <= READ_ONCE(disk->cut_gen))\n",
                        "\tif (!is_preserving(disk) || w->gen <= READ_ONCE(disk->cut_gen) || "
                        "w->bio)\n", "model"),
    "last-block-unmarked": ("write.c", "\tw->last = (sector + nr - 1) >> EBB_BLOCK_SHIFT;\n",
                            "\tw->last = max_t(s64, w->first, (s64)((sector + nr) / "
                            "EBB_BLOCK_SECTORS) - 1);\n", "model"),
    "discarded-stays": ("write.c",
                        "\tebb_map_clear_discarded(&disk->map[1], w->first, w->last);\n", "",
                        "model"),
    "whole-only-dirty": ("preserve.c",
                         "\treturn READ_ONCE(disk->whole) ? block : "
                         "ebb_map_first(ebb_pass_map(disk), block, last);\n",
                         "\treturn ebb_map_first(ebb_pass_map(disk), block, last);\n", "model"),
    # The durable map: these are stories of restarts.py.
    "log-not-durable": ("log_store.c", "(durable ? REQ_FUA : 0)", "(durable ? 0 : 0)",
                        "restarts:crash_armed"),
    "log-after-write": ("log.c",
                        "\tif (!ebb_log_write_due(log)) {\n\t\tspin_lock_irq(&log->lock);\n",
                        "\tif (log) {\n\t\tspin_lock_irq(&log->lock);\n",
                        "restarts:crash_armed"),
    "cool-without-flush": ("log_cool.c",
                           "\tint err = ebb_issue_flush(ebb_disk_bdev(log->disk));\n",
                           "\tint err = 0;\n", "restarts:cooled"),
    "cool-marked": ("log_cool.c",
                    "\tif (!ebb_log_region_is_marked(log, region))\n\t\treturn;\n\tset_bit",
                    "\tif (log)\n\t\treturn;\n\tset_bit", "restarts:crash"),
    "cool-confirmed": ("log.c", "\tforget_idle(log, &disk->unconfirmed);\n", "",
                       "restarts:cooled"),
    "seal-without-unconfirmed": ("log_seal.c",
                                 "ebb_map_word(&disk->released, word) | "
                                 "ebb_map_word(&disk->unconfirmed, word);",
                                 "ebb_map_word(&disk->released, word);",
                                 "restarts:clean_in_an_epoch"),
    "seal-without-pass": ("log_seal.c",
                          "\treturn ebb_map_word(&disk->map[0], word) | "
                          "ebb_map_word(&disk->map[1], word) |\n",
                          "\treturn ebb_map_word(&disk->map[disk->group->gen & 1], word) |\n",
                          "restarts:clean_in_an_epoch"),
    "seal-without-released": ("log_seal.c",
                              "ebb_map_word(&disk->released, word) | "
                              "ebb_map_word(&disk->unconfirmed, word);",
                              "ebb_map_word(&disk->unconfirmed, word);",
                              "restarts:clean_in_an_epoch"),
    "seal-hot": ("log_seal.c", "\t\tbitmap_zero(log->hot, log->nr_regions);\n", "",
                 "restarts:writes_after_seal"),
    "let-go-after-seal": ("log.c", "\tWRITE_ONCE(log->barred, log->sealed && !log->told);\n",
                          "\tWRITE_ONCE(log->barred, false);\n", "restarts:map_gone_after_seal"),
    "slot-not-alternated": ("log.c", "\t\t\tchange_bit(batch[i], log->newer);\n", "",
                            "restarts:crash_armed"),
    "log-of-sealed-ignored": ("log_load.c",
                              "\t\tif (seq <= log->super.log_since)\n",
                              "\t\tif (seq <= log->super.log_since || "
                              "log->super.state == EBB_SUPER_SEALED)\n",
                              "restarts:writes_after_seal"),
    "witness-not-compared": ("log_load.c", "|| found[i].crc != crcs[i])\n", "|| (found[i].crc != crcs[i] && !nr))\n",
                             "restarts:stale"),
    "witness-read-again": ("log_witness.c", "\t\tif (old && old->known && ", "\t\tif (old && !old && ",
                           "log-witness"),
    "witness-kept-hot": ("log_witness.c", "\t\tif (is_hot(log, set[i].block))\n\t\t\tcontinue;\n", "",
                         "log-witness"),
    "witness-late-unknown": ("log_witness.c", "\t\tif (new)\n\t\t\t*w = *new;\n",
                             "\t\tw->known = 0;\n\t\tif (new)\n\t\t\t*w = *new;\n", "log-witness"),
    "witness-unread-cools": ("log_witness.c", "\t\tif (!w->known)\n\t\t\tset_bit(w->block >> log->shift, log->hot);\n",
                             "", "log-witness-fails"),
    "witness-unread-unsaid": ("log_witness.c", "\tput_reads(reads);\n\treturn err;\n",
                              "\tput_reads(reads);\n\treturn 0;\n", "log-witness-fails"),
    "witness-lost-anew": ("log_load.c", "\tsuper->nr_witnesses = nr;\n", "", "log-witness-fails"),
    "witness-for-ever": ("log_witness.c", "\tif (limit)\n\t\treturn", "\tif (limit > 1200 * HZ)\n\t\treturn",
                         "log-witness-fails"),
    "bystander-waits": ("pass.c", "\tif (!owns_anything(portid))\n\t\treturn;\n", "", "log-witness-fails"),
    "boot-forgotten": ("log.c", "\tmemcpy(boot_id, log->super.boots[log->super.nr_boots - 1], EBB_UUID_LEN);\n",
                       "\tmemset(boot_id, 0, EBB_UUID_LEN);\n", "log-witness-fails"),
    "let-go-in-seal": ("log.c", "\tif (age < limit || sealing) {\n", "\tif (age < limit) {\n", "restarts:late_in_seal"),
    "witness-dirty-ignored": ("log_load.c", "\tbool exact = sealed && super->flags & EBB_SUPER_F_EXACT;\n",
                              "\tbool exact = sealed && !super;\n", "restarts:stale_dirty"),
    "late-attach-trusted": ("log_load.c",
                            "\tif (ebb_disk_writes(disk->gd) > ebb_store_writes_on(disk->gd))\n",
                            "\tif (ebb_disk_writes(disk->gd) > U64_MAX - 1)\n", "restarts:late"),
    "map-in-image": ("image.c",
                     "\t\tsubstitute(disk, origin, false);\n"
                     "\t\tebb_store_blank(disk->gd, origin);\n\t\t/* The state",
                     "\t\tsubstitute(disk, origin, false);\n\t\t/* The state",
                     "restarts:same_disk"),
    "super-again": ("log.c", "\t\tif (!came_late(log))\n", "\t\tif (!came_late(log) || log)\n",
                    "log-deadline"),
    "failure-unsaid": ("log.c",
                       "\t\tif (!put_super(log)) {\n\t\t\twas_told(log);\n",
                       "\t\tif (log) {\n\t\t\twas_told(log);\n", "log-device-fails"),
    "mark-not-logged": ("log.c",
                        "\t\tebb_log_want(log, first >> log->shift, last >> log->shift);\n"
                        "\t\tif (!ebb_log_write_due(log))\n\t\t\tset_hot(log, first, last);\n",
                        "\t\tset_hot(log, first, last);\n", "restarts:reasons_stay"),
    "region-not-recovered": ("log_load.c",
                             "\tfor (r = find_next_bit(log->on_disk, end, base); r < end;\n",
                             "\tr = find_next_bit(log->on_disk, end, base) + 1;\n"
                             "\tfor (r = find_next_bit(log->on_disk, end, r); r < end;\n",
                             "restarts:crash"),
    "seal-too-early": ("log_seal.c",
                       "\t\tbitmap_zero(log->hot, log->nr_regions);\n"
                       "\t\t/* Pairs with a write: it marks, then looks whether the region is hot. */\n"
                       "\t\tsmp_mb();\n\t\twrite_seal(log);\n",
                       "\t\twrite_seal(log);\n\t\tbitmap_zero(log->hot, log->nr_regions);\n",
                       "restarts:writes_in_seal"),
    "seal-without-flush": ("log_seal.c", "\tflushed = ebb_log_flush_disk(log);\n",
                           "\tflushed = true;\n", "restarts:clean_unflushed"),
    # Under the debug kernel: what kmemleak, lockdep and RCU's checks see. Under kcsan: data races.
    "leak": ("image.c", "\tida_free(&minors, image->minor);\n\tkfree(image);\n}\n",
             "\tida_free(&minors, image->minor);\n}\n", "log-memory", "debug"),
    "log-leak": ("log.c", "\tkvfree(log->due);\n\tkvfree(log);\n", "\tkvfree(log);\n",
                 "restarts:clean", "debug"),
    "lock-order": ("preserve.c", "\tspin_lock(&pool->lock);\n\tkeep = list_first",
                   "\tspin_lock(&pool->lock);\n\tmight_lock(&ebb_mutex);\n\tkeep = list_first",
                   "slow-reader-preserves", "debug"),
    "unmarked": ("write.c", "\tthis_cpu_add(cpu->sectors, nr);\n",
                 "\tthis_cpu_add(cpu->sectors, nr);\n\tdisk->nr_preserved++;\n",
                 "stamps-two-disks", "kcsan"),
    "settled-unlocked": ("pass.c",
                         "\tspin_lock_irq(&group->pass_lock);\n\tdue = pass->state == "
                         "EBB_PASS_VOID && !pass->settled;\n\tpass->settled = true;\n"
                         "\tspin_unlock_irq(&group->pass_lock);\n",
                         "\tdue = pass->state == EBB_PASS_VOID && !pass->settled;\n"
                         "\tpass->settled = true;\n", "void-at-once", "kcsan"),
}

# Faults of other cases that the model test finds as well.
FOUND_BY_MODEL = ("or-back-void", "or-back-released", "or-back-unconfirmed", "no-substitution",
                  "no-preserve", "no-drain", "hook-blind", "erased-untracked", "witness-passthrough")
# ... and those that the model test over restarts has to find without being told.
FOUND_BY_RESTARTS = ("region-not-recovered", "log-after-write", "seal-too-early", "seal-without-flush")


def planted(name):
    """(file, its content with the fault)"""
    file, text, replacement = MUTATIONS[name][:3]
    with open(os.path.join(TOP, "kmod", file), encoding="utf-8") as stream:
        content = stream.read()
    if content.count(text) != 1:
        raise SystemExit(f"mutation {name}: its text occurs {content.count(text)} times in {file}")
    return file, content.replace(text, replacement)


def plant(name, kernel):
    """The module with the fault, built; its path in the tree."""
    file, content = planted(name)
    # Outside the tree, so that the build takes the copy for the module's own folder.
    base = tempfile.mkdtemp(prefix="ebb-mutation-")
    source = os.path.join(base, "kmod")
    shutil.copytree(os.path.join(TOP, "kmod"), source)
    with open(os.path.join(source, file), "w", encoding="utf-8") as stream:
        stream.write(content)
    out = os.path.join("build/mutations", name, "out")
    subprocess.run([os.path.join(LAB, "kmod.sh"), kernel, source, os.path.join(TOP, out)],
                   check=True)
    shutil.rmtree(base)
    return os.path.join(out, "ebb.ko")


def run(case, kernel, tag, *more):
    """(the summary line of one case, or story (restarts:NAME), what it failed by)"""
    if case == "model":  # a fault is not made smaller
        more += ("--env", "MODEL=--seeds 1..60 --at-most 300 --cuts 1 --shrink 0")
    program, _, story = case.partition(":")
    program = f"tests/kmod/{program}.py" if story else "tests/kmod/run.py"
    which = ["--seeds" if case == MODEL_RESTARTS else "--only", story or case]
    done = subprocess.run([os.path.join(TOP, program), "--kernel", kernel, *which,
                           "--tag", tag, *more], stdout=subprocess.PIPE, text=True,
                          check=False)
    lines = done.stdout.splitlines() or [""]
    said = [line.strip() for line in lines if WHY.search(line)]
    return lines[-1], (said or [line.strip() for line in lines if line.startswith("    ")] or [""])[0]


@functools.cache
def passes(case, kernel):
    """Whether the case passes without a fault: one that always fails would catch everything."""
    return re.fullmatch(r"[1-9]\d* passed, 0 failed", run(case, kernel, "mutation-none")[0])


def caught(name, kernel, case, known):
    """(whether it was, by what); a machine that does not even start has caught nothing."""
    kernel = (*MUTATIONS[name][4:], kernel)[0]
    module = plant(name, kernel)
    if not known and not passes(case, kernel):
        return False, "the case fails without a fault"
    summary, why = run(case, kernel, "mutation-" + name, "--ko", module)
    return summary.endswith(" passed, 1 failed") and not why.startswith("machine: "), why


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel", default="6.1")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--model", action="store_true", help="by the model test")
    parser.add_argument("--model-restarts", action="store_true", help="by that over restarts")
    parser.add_argument("--known-good", action="store_true",
                        help="do not run the cases without a fault: they were seen to pass")
    parser.add_argument("--dry-run", action="store_true", help="only see whether each applies")
    options = parser.parse_args()
    failed = 0
    names = list(MUTATIONS)
    if options.model:
        names = [n for n in names if n in FOUND_BY_MODEL or MUTATIONS[n][3] == "model"]
    if options.model_restarts:
        names = FOUND_BY_RESTARTS
    names = options.only or names
    if options.dry_run:
        print(f"{len([planted(name) for name in names])} passed, 0 failed")
        return 0
    for name in names:
        case = ("model" if options.model else
                MODEL_RESTARTS if options.model_restarts else MUTATIONS[name][3])
        good, why = caught(name, options.kernel, case, options.known_good)
        failed += not good
        verdict = "caught" if good else "NOT CAUGHT"
        print(f"{name:24} {case:28} {verdict}{': ' + why if why else ''}", flush=True)
    print(f"{len(names) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
