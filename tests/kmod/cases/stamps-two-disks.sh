# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# Causality over disks: writers that go to one disk only after the other acknowledged; every closed
# cut holds all that was acknowledged before it, nothing of later, nothing without its predecessors.
load
a=$(disk virtio0) b=$(disk scsi0)
fresh "$a"
fresh "$b"
ids="$(attach "$a" 1) $(attach "$b" 1)"
replicate r 1 "$ids" --initial --interval 150 --compare --log "$W/r.cuts" --tickets "$TICKETS"
stamp w --disk "$a@0+2000" --disk "$b@0+2000" --engine mixed --writers 3
stamped_until w cuts r 8
replica_good r 8
judge r
