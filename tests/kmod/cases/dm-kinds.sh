# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# timeout: 400
# Stripes, encryption and thin volumes: the disks below are tracked, the dm devices above them too, in one
# group. Thin snapshots copy below what is written above.
modprobe -a dm-mod dm-crypt dm-thin-pool || skip "no such dm targets"
n=()
for i in 0 1 2 3 4; do n[i]=$(nullb dk$i $((i == 3 ? 4 : i == 4 ? 40 : 24))) || fail "null_blk"; done
dm() { dmsetup create "$1" --table "$2" && dmsetup mknodes || fail "dm $1"; }
up() { readlink -f "/dev/mapper/$1"; }
dm ebbstripe "0 98304 striped 2 24 ${n[0]} 0 ${n[1]} 0"
dm ebbcrypt "0 40000 crypt aes-xts-plain64 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 0 ${n[2]} 9000"
dm ebbpool "0 81920 thin-pool ${n[3]} ${n[4]} 128 0"
dmsetup message ebbpool 0 "create_thin 0" || fail "thin"
dm ebbthin "0 32768 thin $(up ebbpool) 0"
finish() {
    detach_all
    dmsetup remove ebbsnap
    for d in ebbthin ebbpool ebbcrypt ebbstripe; do dmsetup remove $d; done
    for i in 0 1 2 3 4; do nullb_gone dk$i; done
}
load
ids=
for d in "${n[@]}" "$(up ebbstripe)" "$(up ebbcrypt)" "$(up ebbthin)"; do ids="$ids $(attach "$d" 1)" || fail "attach $d"; done
replicate r 1 "$ids" --initial --interval 300 --compare
mix flat --disk "$(up ebbstripe)" --discard-zeroes --need direct,subblock,uring,discard,zeroout
mix deep --disk "$(up ebbcrypt)" --disk "$(up ebbthin)" --rate 200 --need direct,subblock,sequential,zeroout
stamped_until flat cuts r 3
# What is shared with a snapshot is copied before it is written.
dmsetup suspend ebbthin && dmsetup message ebbpool 0 "create_snap 1 0" && dmsetup resume ebbthin || fail "snapshot"
dm ebbsnap "0 32768 thin $(up ebbpool) 1"
before=$(sha256sum <"$(up ebbsnap)")
stamped_until deep cuts r 8
[ "$(sha256sum <"$(up ebbsnap)")" = "$before" ] || fail "the snapshot changed"
dmsetup remove ebbsnap
dmsetup message ebbpool 0 "delete 1"
dmsetup suspend ebbpool && dmsetup resume ebbpool
replica_good r 4
# shellcheck disable=SC2086
seen $ids
