# SPDX-License-Identifier: Apache-2.0
# What the cases share; read by each case inside the guest (bash).
#
# Given by the runner: CASE (its name), KO (path of ebb.ko), SLOW (1 under the debug kernel).
set -u
export PATH=/ebb/build/tests/kmod:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DM_DISABLE_UDEV=1
W=/dev/shm/$CASE
rm -rf "$W"
mkdir -p "$W"
cd "$W" || exit 1
SLOW=${SLOW:-0}
# Enterprise Linux has io_uring, and lets nobody use it unless told so.
[ ! -e /proc/sys/kernel/io_uring_disabled ] || echo 0 >/proc/sys/kernel/io_uring_disabled
TICKETS=$W/tickets
background=()
suspended=()

say() { echo "[$(cut -d' ' -f1 /proc/uptime)] $*"; }
fail() {
    echo "FAILED: $*"
    tail -n 20 "$W"/*.out 2>/dev/null
    ebbtest list 2>&1
    exit 1
}
skip() {
    echo "SKIPPED: $*"
    exit 77
}
# expect WHAT COMMAND...: the command must succeed
expect() {
    local what=$1
    shift
    "$@" || fail "$what: $*"
}
# refused ERRNO-NAME COMMAND...: the command must fail with it
refused() {
    local want=$1 got
    shift
    got=$("$@" 2>&1) && fail "$* succeeded, $want was due"
    case $got in
        *"$want"*) ;;
        *) fail "$*: said '$got', $want was due" ;;
    esac
}
# wait_for SECONDS COMMAND...: until it succeeds
wait_for() {
    local end=$((SECONDS + $1 * (1 + 3 * SLOW)))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

# -- devices --------------------------------------------------------------------------------------
# disk NAME: the kernel's name of a disk of the machine (lsi0 lsi1 scsi0 scsi1 virtio0 virtio1; with
# "# disks: more" also mptsas0 pvscsi0 nvme0, native0 with sectors of 4 KiB, odd0 and odd1, whose sizes
# are no multiple of 4 KiB).
disk() {
    local d
    for d in /sys/block/sd* /sys/block/vd* /sys/block/nvme*n*; do
        [ -e "$d" ] || continue
        case $(cat "$d/device/wwid" "$d/serial" "$d/device/serial" 2>/dev/null)=$1 in
            *5000c290000000c0*=mptsas0 | *5000c290000000d0*=pvscsi0 | *5000c290000000e0*=native0 | \
                *5000c290000000f0*=odd1 | nvme0*=nvme0) echo "/dev/${d##*/}" && return ;;
            *5000c290000000a"${1#lsi}"*) [ "$1" != "${1#lsi}" ] && echo "/dev/${d##*/}" && return ;;
            *5000c290000000b"${1#scsi}"*) [ "$1" != "${1#scsi}" ] && echo "/dev/${d##*/}" && return ;;
            "$1=$1") echo "/dev/${d##*/}" && return ;;
        esac
    done
    # Whoever asked may not notice: "$(disk lsi0) $(disk scsi0)" would be one disk, and a test of less.
    echo "no disk $1" >&2
    kill -TERM $$
    return 1
}
# nullb NAME MIB [ATTRIBUTE=VALUE]...: a memory backed null_blk disk
nullb() {
    local dir=/sys/kernel/config/nullb/$1 name=$1 size=$2 a
    modprobe configfs 2>/dev/null
    modprobe null_blk nr_devices=0 || return 1
    mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
    mkdir "$dir" || return 1
    shift 2
    for a in "size=$size" memory_backed=1 discard=1 "$@"; do
        echo "${a#*=}" >"$dir/${a%%=*}" || return 1
    done
    echo 1 >"$dir/power" || return 1
    # Older kernels number them and know no names.
    if [ -b "/dev/$name" ]; then echo "/dev/$name"; else echo "/dev/nullb$(cat "$dir/index")"; fi
}
nullb_gone() { echo 0 >"/sys/kernel/config/nullb/$1/power" && rmdir "/sys/kernel/config/nullb/$1"; }
# delay NAME BACKING READ_MS WRITE_MS: a dm-delay disk
delay() {
    modprobe dm-delay
    dmsetup create "$1" --table "0 $(blockdev --getsz "$2") delay $2 0 $3 $2 0 $4" || return 1
    dmsetup mknodes "$1" 2>/dev/null
    readlink -f "/dev/mapper/$1"
}
# linear NAME BACKING: a dm disk. What is sent to it after dm_suspend NAME stays in flight until
# dm_resume NAME: however slow the guest is, it is still there when we look.
linear() {
    modprobe dm-mod
    dmsetup create "$1" --table "0 $(blockdev --getsz "$2") linear $2 0" || return 1
    dmsetup mknodes "$1" 2>/dev/null
    readlink -f "/dev/mapper/$1"
}
dm_suspend() {
    suspended+=("$1")
    dmsetup suspend --noflush --nolockfs "$1" || fail "suspend $1"
}
dm_resume() { dmsetup resume "$1" || fail "resume $1"; }
partition() { # partition DISK: one partition from 1 MiB, made and its path printed
    echo 'start=2048' | sfdisk -q --no-tell-kernel --wipe always "$1" >/dev/null 2>&1
    blockdev --rereadpt "$1" || partprobe "$1"
    case $1 in
        *[0-9]) wait_for 5 test -b "$1p1" && echo "$1p1" ;;
        *) wait_for 5 test -b "${1}1" && echo "${1}1" ;;
    esac
}
fresh() { # the disk reads zero everywhere
    dd if=/dev/zero of="$1" bs=1M oflag=direct conv=fsync 2>/dev/null
    true
}

# -- the module -----------------------------------------------------------------------------------
load() { # load [parameter=value]...: deadlines as emulation needs them, unless given
    local p=(hold_deadline_ms=$((2000 + 6000 * SLOW)) owner_timeout_ms=$((60000 + 540000 * SLOW)))
    insmod "$KO" "${p[@]}" "$@" || fail "insmod $*"
}
field() { # field NAME: the first number or word of that name in the JSON on standard input
    grep -o "\"$1\":[^,}]*" | head -1 | cut -d: -f2- | tr -d '"'
}
attach() { # attach DEV GROUP: prints the disk's number
    local out
    out=$(ebbtest attach "$1" "id-${1##*/}" "$2" 2>&1) || { echo "attach $1: $out" >&2; return 1; }
    echo "$out" | sed 's/.*"disk":{//' | field id
}
# attach_logged DEV GROUP MAPDEV SECTOR [create]: with a map area there
attach_logged() {
    local out
    out=$(ebbtest attach "$1" "id-${1##*/}" "$2" "$3" "$4" "${AREA:-4096}" ${5:+"$5"} 2>&1) ||
        { echo "attach $1: $out" >&2; return 1; }
    echo "$out" | sed 's/.*"disk":{//' | field id
}
disk_get() { ebbtest get "$1" | sed 's/.*"disk":{//' | field "$2"; }
image_of() { # path of the image device
    local dev
    dev=$(disk_get "$1" image_dev)
    sed -n 's/^DEVNAME=/\/dev\//p' "/sys/dev/block/$((dev >> 32)):$((dev & 0xffffffff))/uevent"
}
# After "coproc EBB { ebbtest script; }", commands over that one socket, which lives as long as it.
# ask LINE...: its answer is in $answer; false if it was refused
ask() {
    echo "$*" >&"${EBB[1]}"
    answered
}
answered() {
    local line
    answer=
    while read -r line <&"${EBB[0]}"; do
        case $line in ok) return 0 ;; error*) answer=$line && return 1 ;; *) answer=$line ;; esac
    done
    return 1
}
must() { ask "$@" || fail "$*: $answer"; }
must_not() { # must_not ERRNO-NAME LINE...
    local want=$1
    shift
    ask "$@" && fail "$* was granted, $want was due"
    [[ $answer == *"$want"* ]] || fail "$*: said '$answer', $want was due"
}
hang_up() { # the socket is closed
    local to=${EBB[1]} pid=$EBB_PID
    exec {to}>&-
    wait "$pid"
}
detach_all() {
    local id
    for id in $(ebbtest list | sed 's/.*"disk":{//' | grep -o '^"id":[0-9]*' | cut -d: -f2); do
        expect "detach" ebbtest detach "$id"
    done
}
unload() {
    detach_all
    rmmod ebb || fail "rmmod"
}

# -- replicator and writers -----------------------------------------------------------------------
# replicate NAME GROUP IDS [option]...: starts one and waits until the first bulk is over
replicate() {
    local name=$1 group=$2 ids=$3 id args=()
    shift 3
    for id in $ids; do args+=(--replica "$id=$W/$name.$id.img"); done
    rm -f "$W/$name.out".*
    replicator --group "$group" "${args[@]}" --json "$W/$name.json" "$@" >"$W/$name.out" 2>&1 &
    eval "pid_$name=$!"
    background+=($!)
    wait_for 240 grep -q replicating "$W/$name.out" || fail "replicator $name did not start"
}
# replica_good NAME [LEAST_CUTS]: ends it after a last cut; all it compared must be equal
replica_good() {
    local pid closed
    eval "pid=\$pid_$1"
    kill -TERM "$pid"
    wait "$pid" || fail "replica $1 is not good"
    closed=$(field closed <"$W/$1.json")
    say "$1: $(cat "$W/$1.json")"
    [ "$closed" -ge "${2:-1}" ] || fail "only $closed cuts closed"
}
# exact NAME: not even what was discarded may differ (of disks that then read as zeroes)
exact() { [ "$(field masked <"$W/$1.json")" = 0 ] || fail "discarded blocks of replica $1 differ"; }
# seen ID...: the disks' writes were all tracked: nothing flagged, the witness saw no other, none in flight
seen() {
    local id
    for id in "$@"; do
        [ "$(disk_get "$id" resync_reasons)" = 0 ] || fail "disk $id is flagged"
        [ "$(disk_get "$id" untracked_requests)" = 0 ] || fail "disk $id: the witness saw what the hook did not"
        wait_for 10 test "$(disk_get "$id" in_flight)" = 0 || fail "disk $id: in flight for ever"
    done
}
# flagged ID BIT: whether the disk is to be sent whole for that reason (1 << enum ebb_resync_reason)
flagged() { [ $(($(disk_get "$1" resync_reasons) & $2)) = "$2" ]; }
# stamp NAME OPTIONS...: a stamping writer in the background; stamped NAME waits for its end
stamp() {
    local name=$1
    shift
    stamper --tickets "$TICKETS" --log "$W/$name.log" "$@" >"$W/$name.stamper.out" 2>&1 &
    eval "pid_$name=$!"
    background+=($!)
    wait_for 240 grep -q stamping "$W/$name.stamper.out" || fail "writer $name did not start"
    from_here "$name"
}
stamped() {
    local pid
    eval "pid=\$pid_$1"
    wait_for 100 test ! -d "/proc/$pid/fd/." || hung "$pid" "writer $1"
    wait "$pid" || fail "writer $1"
}
# from_here WRITER: notes what the replicators have said so far
from_here() {
    local out
    for out in "$W"/*.out; do wc -l <"$out" >"$out.$1"; done
}
# stamped_until NAME COMMAND...: it goes on until the command succeeds, then ends
stamped_until() {
    local name=$1 whose=$1 pid
    shift
    eval "pid=\$pid_$name"
    wait_for 200 "$@" || fail "not in 200 s: $*"
    kill -TERM "$pid"
    stamped "$name"
}
# mix NAME OPTIONS...: writes of all kinds in the background, whose writer knows what the disk must hold;
# stamped NAME and stamped_until NAME wait for it as well, and for its judgement
mix() {
    local name=$1
    shift
    mixer --seed "${EBB_SEED:-$RANDOM}" "$@" >"$W/$name.mixer.out" 2>&1 &
    eval "pid_$name=$!"
    background+=($!)
    wait_for 60 grep -q mixing "$W/$name.mixer.out" || fail "mixer $name did not start"
    from_here "$name"
}
# cuts NAME COUNT [WHAT]: whether a replicator has had so many cuts that closed, or were void so; asked by
# stamped_until WRITER, since that writer began: those before have none of its writes.
cuts() {
    local from
    from=$(cat "$W/$1.out.${whose:-}" 2>/dev/null)
    [ "$(tail -n "+$((${from:-0} + 1))" "$W/$1.out" | grep -c "^${3:-closed}$")" -ge "$2" ]
}
# hung PID WHAT: it does not end; says what the kernel and the module know of that, and fails
hung() {
    bash /ebb/tests/kmod/guest/hung.sh "$1"
    fail "$2 does not end"
}
# judge NAME: every closed cut of the replicator's log against the writers' logs
judge() {
    local logs=() f
    for f in "$W"/*.log.[0-9]*; do logs+=(--log "$f"); done
    stampcheck "${logs[@]}" --cuts "$W/$1.cuts" >"$W/judge.out" 2>&1 || fail "stamps"
    say "judge: $(tail -1 "$W/judge.out")"
}
seconds() { echo $(($1 * (1 + 2 * SLOW))); }

detach_quietly() {
    local id
    [ -d /sys/module/ebb ] || return
    for id in $(ebbtest list | sed 's/.*"disk":{//' | grep -o '^"id":[0-9]*' | cut -d: -f2); do
        ebbtest detach "$id"
    done
}
# However the case ended: nothing of it goes on, and the module is gone.
cleanup() {
    local p
    for p in "${background[@]}" ${EBB_PID:-}; do kill -KILL "$p"; done
    for p in "${suspended[@]}"; do dmsetup resume "$p"; done
    wait
    detach_quietly
    type finish >/dev/null && finish
    [ ! -d /sys/module/ebb ] || rmmod ebb
    cd /
    rm -rf "$W"
}
trap 'cleanup 2>/dev/null' EXIT
