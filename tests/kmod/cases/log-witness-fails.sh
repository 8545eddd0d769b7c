# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# Witness blocks that cannot be read: it is said, and their region does not go cold without them. A disk that
# stands still holds up neither the command for long nor anybody else; a log that is made anew keeps them.
load log_cool_s=0
n=$(nullb lf 64) || fail "null_blk"
q=$(nullb lq 16) || fail "null_blk"
d=$(delay lf "$n" 0 0) || fail "dm-delay"
id=$(attach_logged "$d" 1 "$q" 0 create) || fail "attach"
u32() { dd if="$q" bs=1 skip=$(($1)) count="${2:-4}" 2>/dev/null | od -An -t "u${2:-4}" | tr -d ' '; }
# known NUMBER: what the newer slot of the superblock says of that witness (docs/map-format.md)
known() {
    local slot=0 at=$((552 + 16 * $1 + 12))
    blockdev --flushbufs "$q"
    [ "$(u32 4104 8)" -gt "$(u32 8 8)" ] && slot=4096
    u32 $((slot + at / 496 * 512 + 16 + at % 496))
}
is_known() { [ "$(known "$1")" = "$2" ]; }
is() { [ "$(disk_get "$id" "$1")" = "$2" ]; }
cold() { ebbtest confirm 1 && is hot_regions 0; }
put() { dd if=/dev/urandom of="$d" bs=4k count=1 seek="$1" oflag=direct conv=notrunc 2>/dev/null || fail "write"; }
bad() { echo "$1$((500 * 8))-$((500 * 8 + 7))" >/sys/kernel/config/nullb/lf/badblocks || fail "bad blocks"; }
gone() { ! kill -0 "$1" 2>/dev/null; }
ends() { # ends PID WHAT: otherwise the disk goes on, so that it can be killed
    local stack
    wait_for 20 gone "$1" && return
    stack=$(cat "/proc/$1/stack")
    dmsetup resume lf
    fail "$2: $stack"
}
refused() { # refused ERRNO-NAME SECTOR COUNT...
    ebbtest witness "$id" "${@:2}" >"$W/witness.out" 2>&1 &
    ends $! "choosing witnesses waits for the disk"
    wait $! && fail "the witnesses are taken without a word"
    grep -q "^$1: " "$W/witness.out" || fail "not $1: $(cat "$W/witness.out")"
}
send() {
    replicate "$1" 1 "$id" --cuts 1
    eval "wait \$pid_$1" || fail "replicator $1"
}
all_cold() {
    ebbtest mark-all "$id"
    send "$1"
    wait_for 20 cold || fail "regions do not go cold"
}
all_cold first

# Block 250 is in region 0, block 500 in region 1.
bad +
refused EIO 2000 8 4000 8
is witnesses 2 || fail "the set is not in force"
is_known 0 1 || fail "the witness that could be read is not known"
is_known 1 0 || fail "one that could not is known"
bad -
expect "witness" ebbtest witness "$id" 2000 8 4000 8
is_known 1 1 || fail "the witness is not known when it can be read"

# In a region that goes cold.
cool_s=/sys/module/ebb/parameters/log_cool_s
echo 3600 >"$cool_s"
put 501
put 1001
send second
bad +
echo 0 >"$cool_s"
only_one() { ebbtest confirm 1 && is hot_regions 1; }
wait_for 20 only_one || fail "the other region does not go cold"
looks() { ebbtest confirm 1 && [ "$((looked += 1))" -ge 20 ]; }
looked=0
wait_for 20 looks
is hot_regions 1 || fail "a region went cold without its witness"
bad -
wait_for 20 cold || fail "the region does not go cold when the witness can be read"
is_known 1 1 || fail "the witness is not known"

# Made anew after the map device failed.
boots=$(disk_get "$id" boots)
echo "+16-31" >/sys/kernel/config/nullb/lq/badblocks
put 16000
is log_state 2 || fail "the log is not given up"
echo "-16-31" >/sys/kernel/config/nullb/lq/badblocks
all_cold third
is log_state 1 || fail "the map is not made anew"
is witnesses 2 || fail "the witnesses are gone"
[ "$(disk_get "$id" boots)" = "$boots" ] || fail "boots are $(disk_get "$id" boots), were $boots"
wait_for 20 is_known 1 1 || fail "a witness of the map that was made anew is not known"

# The disk stands still.
deadline=/sys/module/ebb/parameters/log_deadline_ms
echo 1000 >"$deadline"
dmsetup suspend --noflush lf || fail "suspend"
# More often than reads are begun that nobody waits for.
for _ in 1 2 3 4 5 6; do refused ETIMEDOUT 8000 8; done
dmsetup resume lf || fail "resume"
expect "witness" ebbtest witness "$id" 2000 8 4000 8
is_known 1 1 || fail "the witness is not known"
echo 600000 >"$deadline"
dmsetup suspend --noflush lf || fail "suspend"
ebbtest witness "$id" 9000 8 >"$W/witness.out" 2>&1 &
waiting=$!
asleep() { grep -q "ebb_log_read\|wait_for_compl" "/proc/$waiting/stack"; }
wait_for 20 asleep || fail "the command does not wait: $(cat "/proc/$waiting/stack")"
# The end of any generic netlink socket comes by the module. (Who subscribes to something waits on 5.10 all
# the same, by the kernel's own lock.)
ebbtest open >/dev/null 2>&1 &
ends $! "somebody else waits for the disk"
dmsetup resume lf || fail "resume"
wait "$waiting" || fail "witness: $(cat "$W/witness.out")"

# Reads that nobody waits for any more, and an end of tracking.
echo 500 >"$deadline"
dmsetup suspend --noflush lf || fail "suspend"
refused ETIMEDOUT 8000 8
ebbtest detach "$id" >"$W/detach.out" 2>&1 &
detaching=$!
waits() { grep -q "ebb_log_settle\|ebb_log_free\|ebb_disk_detach" "/proc/$detaching/stack"; }
wait_for 20 waits || fail "no detach"
dmsetup resume lf || fail "resume"
wait "$detaching" || fail "detach: $(cat "$W/detach.out")"
dmsetup remove lf
nullb_gone lf
nullb_gone lq
rmmod ebb || fail "rmmod"
