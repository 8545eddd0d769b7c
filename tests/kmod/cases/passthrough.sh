# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# disks: more
# Commands that go past the bio hook by every door: SCSI's three interfaces and its oldest, NVMe's, and those that reach
# a tracked dm disk through the node of dm or of the disk below. Each is flagged; what only reads is not.
modprobe -a sg dm-mod
load
s=$(disk scsi1) v=$(disk nvme0)
fresh "$s"
id=$(attach "$s" 1) nv=$(attach "$v" 1)
sys=/sys/block/${s##*/}/device
sg=/dev/$(ls "$sys/scsi_generic") bsg=/dev/bsg/$(basename "$(readlink -f "$sys")")
[ -c "$sg" ] && [ -c "$bsg" ] || fail "no $sg or $bsg"
cat >"$W/door.py" <<'PY'
import ctypes, fcntl, os, struct, sys
kind, path = sys.argv[1:3]
fd = os.open(path, os.O_RDWR)
data = ctypes.create_string_buffer(os.urandom(4096), 4096)
if kind == "scsi-ioctl":                     # SCSI_IOCTL_SEND_COMMAND: WRITE (10) of one sector
    cdb = struct.pack(">BBIBHB", 0x2a, 0, 4000, 0, 1, 0)
    both = ctypes.create_string_buffer(struct.pack("II", 512, 0) + cdb + data.raw[:512], 2048)
    fcntl.ioctl(fd, 1, both)
elif kind.startswith("nvme"):                # NVME_IOCTL_IO_CMD
    code = {"nvme-write": 1, "nvme-zeroes": 8, "nvme-flush": 0}[kind]
    command = struct.pack("BBHIIIQQIIIIIIIIII", code, 0, 0, 1, 0, 0, 0,
                          ctypes.addressof(data) if code == 1 else 0, 0, 512 if code == 1 else 0,
                          64, 0, 0 if code == 1 else 7, 0, 0, 0, 0, 0)
    assert fcntl.ioctl(fd, 0xC0484E43, ctypes.create_string_buffer(command, len(command))) == 0
PY
# past DISK-ID WHAT COMMAND...: it writes, and the disk is flagged
past() {
    local disk=$1 what=$2
    shift 2
    ebbtest mark-all "$disk"
    [ "$(disk_get "$disk" resync_reasons)" = 0 ] || fail "$what: the flag stays after mark-all"
    "$@" >"$W/past.out" 2>&1 || fail "$what: $(cat "$W/past.out")"
    flagged "$disk" 4 || fail "$what was not flagged"
}
random() { dd if=/dev/urandom of="$W/random" bs=4096 count=1 2>/dev/null; }
random
past "$id" "SG_IO on the disk" sg_dd if=/dev/urandom of="$s" bs=512 bpt=8 count=8 seek=2048 blk_sgio=1
past "$id" "SG_IO on sg" sg_dd if=/dev/urandom of="$sg" bs=512 bpt=8 count=8 seek=3072
past "$id" "bsg" sg_raw -s 4096 -i "$W/random" "$bsg" 2a 00 00 00 10 00 00 00 08 00
past "$id" "WRITE SAME" sg_write_same --lba=8192 --num=8 --in="$W/random" --xferlen=512 "$sg"
past "$id" "UNMAP" sg_unmap --lba=16384 --num=64 "$sg"
python3 "$W/door.py" scsi-ioctl "$s" 2>"$W/ioctl.out" && { flagged "$id" 4 || fail "SCSI_IOCTL_SEND_COMMAND was not flagged"; }
say "SCSI_IOCTL_SEND_COMMAND: $(tail -1 "$W/ioctl.out")"
past "$nv" "NVMe write" python3 "$W/door.py" nvme-write "$v"
past "$nv" "NVMe write zeroes" python3 "$W/door.py" nvme-zeroes "$v"
[ ! -c /dev/ng0n1 ] || past "$nv" "NVMe write by its character device" python3 "$W/door.py" nvme-write /dev/ng0n1
for c in "sg_inq $bsg" "sg_readcap $sg" "sg_raw -r 512 $bsg 28 00 00 00 00 00 00 00 01 00" "sg_sync $sg"; do
    ebbtest mark-all "$id"
    $c >"$W/sg.out" 2>&1 || fail "$c: $(cat "$W/sg.out")"
    [ "$(disk_get "$id" resync_reasons)" = 0 ] || fail "flagged by: $c"
done
# The flag tells the truth: what mark-all takes back on is brought over.
past "$id" "SG_IO" sg_dd if=/dev/urandom of="$s" bs=512 bpt=8 count=64 seek=9000 blk_sgio=1
replicate r 1 "$id $nv" --initial --interval 200 --compare
replica_good r 1
detach_all
# The disk below is not tracked, the dm device is.
dmsetup create ebbpt --table "0 $(blockdev --getsz "$s") linear $s 0" && dmsetup mknodes || fail "linear"
finish() { detach_all; dmsetup remove ebbpt; }
d=$(readlink -f /dev/mapper/ebbpt)
id=$(attach "$d" 1)
ebbtest mark-all "$id"
for c in "sg_inq $d" "sg_inq $s" "sg_readcap $d" "dd if=$s of=/dev/null bs=64k count=4 iflag=direct"; do
    $c >"$W/sg.out" 2>&1 || fail "$c"
    [ "$(disk_get "$id" resync_reasons)" = 0 ] || fail "flagged by: $c"
done
dd if=/dev/urandom of="$d" bs=64k count=4 oflag=direct conv=notrunc 2>/dev/null
[ "$(disk_get "$id" resync_reasons)" = 0 ] || fail "flagged by plain writes"
past "$id" "SG_IO through dm" sg_dd if=/dev/urandom of="$d" bs=512 bpt=8 count=8 seek=2048 blk_sgio=1
past "$id" "SG_IO below dm" sg_dd if=/dev/urandom of="$sg" bs=512 bpt=8 count=8 seek=2048
detach_all
dmsetup remove ebbpt
