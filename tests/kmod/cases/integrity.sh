# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# timeout: 400
# Protection information that the block layer makes below us (a disk with T10 PI) and dm-integrity's own: all is tracked and
# nothing flagged. What brings its own payload (encryption with authentication on dm-integrity) is flagged.
modprobe -a dm-mod dm-integrity dm-crypt crc32c gcm || skip "no dm-integrity"
modprobe scsi_debug dev_size_mb=24 dif=1 dix=1 lbpu=1 delay=0 || fail "scsi_debug"
find_sdd() { s=$(grep -l scsi_debug /sys/block/sd*/device/model | head -1) && [ -n "$s" ]; }
wait_for 20 find_sdd || fail "no scsi_debug disk"
s=/dev/$(echo "$s" | cut -d/ -f4)
say "integrity: $(cat "/sys/block/${s##*/}/integrity/format")"
n=$(nullb in0 24) o=$(nullb in1 24) || fail "null_blk"
up() { readlink -f "/dev/mapper/$1"; }
integrity() { # integrity NAME DISK TAG MORE: formats, then opens whole
    dmsetup create "$1" --table "0 8 integrity $2 0 $3 J $4" || fail "format $1"
    dmsetup remove "$1"
    dmsetup create "$1" --table "0 $(od -A n -t u8 -j 16 -N 8 "$2" | tr -d ' ') integrity $2 0 $3 J $4" || fail "dm $1"
    dmsetup mknodes
}
integrity ebbint "$n" - "1 internal_hash:crc32c"
# What was never written has no tag and cannot be read.
fresh "$(up ebbint)"
integrity ebbtag "$o" 28 0
sectors=$(blockdev --getsz "$(up ebbtag)")
finish() {
    detach_all
    for d in ebbaead ebbtag ebbint; do dmsetup remove $d; done
    nullb_gone in0
    nullb_gone in1
    rmmod scsi_debug
}
load
ids="$(attach "$s" 1) $(attach "$n" 1) $(attach "$o" 1) $(attach "$(up ebbint)" 1)"
replicate r 1 "$ids" --initial --interval 200 --compare
# scsi_debug makes no tags for what it is told to zero, and then fails to read it.
mix w --disk "$s" --rate 300 --kinds buffered,flushed,mapped,direct,subblock,large,vectored,batched,sequential,uring,nowait,forced
mix x --disk "$(up ebbint)@0+8388608" --rate 300 --need direct,uring,large
t=$(attach "$(up ebbtag)" 2)
ebbtest mark-all "$t"
dmsetup create ebbaead --table "0 $sectors crypt capi:gcm(aes)-random 000102030405060708090a0b0c0d0e0f 0 $(up ebbtag) 0 1 integrity:28:aead" ||
    fail "crypt with authentication"
dmsetup mknodes
[ "$(disk_get "$t" resync_reasons)" = 0 ] || fail "flagged before anything was written"
dd if=/dev/urandom of="$(up ebbaead)" bs=64k count=16 oflag=direct 2>/dev/null || fail "write"
flagged "$t" 16 || fail "a payload made by its sender was not flagged"
stamped_until w cuts r 4
stamped_until x cuts r 4
dmsetup remove ebbaead
sync
replica_good r 3
# shellcheck disable=SC2086
seen $ids
ebbtest detach "$t"
