# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# Witness blocks, by the superblock on the map device: a change of the set reads only those that are
# new; one in a hot region is unknown until that goes cold; one that comes while its region goes cold is known.
load log_cool_s=0
n=$(nullb lw 64) || fail "null_blk"
d=$(delay lw "$n" 0 0) || fail "dm-delay"
m=$(disk virtio0)
id=$(attach_logged "$d" 1 "$m" 0 create) || fail "attach"
u32() { dd if="$m" bs=1 skip=$(($1)) count="${2:-4}" 2>/dev/null | od -An -t "u${2:-4}" | tr -d ' '; }
# known NUMBER: what the newer slot of the superblock says of that witness (docs/map-format.md)
known() {
    local slot=0 at=$((552 + 16 * $1 + 12))
    blockdev --flushbufs "$m"
    [ "$(u32 4104 8)" -gt "$(u32 8 8)" ] && slot=4096
    u32 $((slot + at / 496 * 512 + 16 + at % 496))
}
is_known() { [ "$(known "$1")" = "$2" ]; }
stat=/sys/dev/block/$((0x$(stat -c %t "$d"))):$((0x$(stat -c %T "$d")))/stat
reads() { awk '{print $1}' "$stat"; }
is() { [ "$(disk_get "$id" "$1")" = "$2" ]; }
cold() { ebbtest confirm 1 && is hot_regions 0; }
put() { dd if=/dev/urandom of="$d" bs=4k count=1 seek="$1" oflag=direct conv=notrunc 2>/dev/null || fail "write"; }
# choose READS BLOCK...: as the witnesses, at the cost of so many reads of the disk
choose() {
    local want=$1 before set=() b
    shift
    for b; do set+=($((b * 8)) 8); done
    before=$(reads)
    expect "witness" ebbtest witness "$id" "${set[@]}"
    [ $(($(reads) - before)) = "$want" ] || fail "$(($(reads) - before)) reads for $#, should be $want"
}
send() {
    replicate "$1" 1 "$id" --cuts 1
    eval "wait \$pid_$1" || fail "replicator $1"
}
ebbtest mark-all "$id"
send first
wait_for 20 cold || fail "regions do not go cold"

mapfile -t blocks < <(seq 0 250 15750)
[ ${#blocks[@]} = 64 ] || fail "${#blocks[@]} blocks"
choose 64 "${blocks[@]}"
is witnesses 64 || fail "witnesses"
for i in 0 31 63; do is_known "$i" 1 || fail "witness $i is not known"; done
choose 0 "${blocks[@]}"
choose 1 16000 "${blocks[@]:1}"

# Block 250 is in region 0, block 500 in region 1: that is hot now.
put 501
choose 1 "${blocks[@]}"
is_known 2 0 || fail "a witness in a hot region is known"
is_known 1 1 || fail "one in a cold region is not"
send second
wait_for 20 cold || fail "region 1 does not go cold"
wait_for 20 is_known 2 1 || fail "a witness in a region that went cold is not known"

# While the witness in region 1 is read for it to go cold, one comes in region 2.
cool_s=/sys/module/ebb/parameters/log_cool_s
read_ms() {
    dmsetup suspend lw && dmsetup load lw --table "0 $(blockdev --getsz "$n") delay $n 0 $1 $n 0 0" &&
        dmsetup resume lw || fail "reads of $1 ms"
}
reading() { [ "$(dmsetup status lw | cut -d' ' -f4)" -gt 0 ]; } # held by dm-delay
begins() { ebbtest confirm 1 && reading; }
for attempt in third fourth fifth sixth; do
    choose 0 500
    echo 3600 >"$cool_s"
    put 501
    put 701
    send "$attempt"
    read_ms 3000
    echo 0 >"$cool_s"
    # A guest that stood still for as long as a read takes has not seen it: once more.
    wait_for 10 begins && break
    read_ms 0
    wait_for 20 cold || fail "regions 1 and 2 do not go cold"
done
reading || fail "no witness is read"
is hot_regions 0 || fail "regions 1 and 2 are hot"
expect "witness" ebbtest witness "$id" 4000 8 5600 8
read_ms 0
wait_for 20 is_known 0 1 || fail "the witness in region 1 is not known"
is_known 1 1 || fail "the witness in region 2, which came meanwhile, is not known"

detach_all
dmsetup remove lw
nullb_gone lw
rmmod ebb || fail "rmmod"
