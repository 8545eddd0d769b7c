# SPDX-License-Identifier: Apache-2.0
"""Application-consistent points on demand, and somebody who lies in wait for the moment of the freeze."""

# Waits, without a fork or a program, until a filesystem is noted as frozen, and does something at that moment.
AT_FREEZE = r"""
how=$1 whom=$2 victims=()
frozen() {
    local line
    { while read -r line; do [ "${line:0:1}" != f ] || return 0; done </run/ebb/frozen; } 2>/dev/null
    return 1
}
all_frozen() {
    local line
    { while read -r line; do [ "${line:0:1}" = f ] || return 1; done </run/ebb/frozen; } 2>/dev/null
}
find_victims() {
    local comm name
    victims=()
    for comm in /proc/[0-9]*/comm; do
        { read -r name <"$comm"; } 2>/dev/null || continue
        case $whom:$name in
            watchdog:ebb-freeze | guard:ebb-freeze-grd | both:ebbd | both:ebb-freeze) ;;
            all:ebbd | all:ebb-freeze | all:ebb-freeze-grd) ;;
            *) continue ;;
        esac
        comm=${comm#/proc/}
        victims+=("${comm%/comm}")
    done
}
# The others are born just before the freeze, which is over before they are found unless ebbd stands still.
for comm in /proc/[0-9]*/comm; do
    { read -r name <"$comm"; } 2>/dev/null || continue
    [ "$name" = ebbd ] || continue
    daemon=${comm#/proc/} daemon=${daemon%/comm}
done
echo ready
until frozen; do
    [ $SECONDS -lt 300 ] || { echo nothing is frozen; exit 1; }
done
case $whom in
    ebbd) victims=("$daemon") ;;
    both | all)
        kill -STOP "$daemon"
        until all_frozen || ! frozen; do :; done
        find_victims
        ;;
    *) find_victims ;;
esac
for pid in "${victims[@]}"; do kill -"$how" "$pid"; done 2>/dev/null
if frozen; then echo hit; else echo late; fi
"""


def begin_point(pair, *words):
    """The number of its job."""
    return pair.control.ctl("checkpoint", "source", "--app", *words)["id"]


def end_point(pair, ident):
    """Its job, ended well or not."""
    def look():
        job = next(j for j in pair.control.state()["jobs"] if j["id"] == ident)
        return job if job["state"] != "running" else None
    return pair.until(f"the end of job {ident}", look, 600)


def made(pair, *words):
    """A job's document, failed or not."""
    return end_point(pair, begin_point(pair, *words))


def at_freeze(pair, how, whom):
    """Somebody who lies in wait."""
    assassin = pair.source.spawn(f"exec bash -s {how} {whom}", stdin=AT_FREEZE)
    pair.until("somebody who lies in wait", lambda: "ready" in assassin.output)
    return assassin
