# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts of the lab: cache folder, locks, private apt configurations.

LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP=$(cd "$LAB/../.." && pwd)
EBB_CACHE=${EBB_CACHE:-$TOP/.cache}
mkdir -p "$EBB_CACHE"
EBB_CACHE=$(cd "$EBB_CACHE" && pwd)
export EBB_CACHE LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

die() { echo "${0##*/}: $*" >&2; exit 1; }
say() { echo "lab: $*" >&2; }

# lab_lock NAME: holds an exclusive lock of that name until the script ends. Two scripts that want
# the same thing made wait for each other, and the second finds it made.
lab_lock() {
    mkdir -p "$EBB_CACHE/locks"
    exec {LAB_LOCK_FD}>"$EBB_CACHE/locks/$1"
    flock "$LAB_LOCK_FD"
}

# in_own_mounts COMMAND...: what it mounts is seen by it alone, and gone with it. mmdebstrap mounts this machine's devices in
# what it makes; where it is killed they would stay there, and a later `rm -rf` would come to them.
in_own_mounts() { unshare --mount --propagation private "$@"; }

# The address of a Debian mirror, from the apt configuration in force on this machine.
debian_mirror() {
    local uri
    uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
        awk '$2 ~ /^(bookworm|trixie|sid|bullseye|stable|testing|unstable)$/ {print $1; exit}')
    [ -n "$uri" ] || uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
        2>/dev/null | awk '/\/debian\/?$/ {print $1; exit}')
    [ -n "$uri" ] || die "no Debian mirror in the apt configuration"
    echo "${uri%/}"
}

debian_keyring() {
    local k
    for k in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
        [ -e "$k" ] && { echo "$k"; return; }
    done
    die "package debian-archive-keyring is missing"
}

# apt_for SUITE: prints the path of an apt configuration that knows this suite alone, with lists and
# a package status of its own (proxies and the like are inherited), after having updated its lists.
apt_for() {
    local d=$EBB_CACHE/apt/$1 i
    mkdir -p "$d"/{lists/partial,archives/partial,empty}
    : >"$d/status"
    echo "deb [signed-by=$(debian_keyring)] $(debian_mirror) $1 main" >"$d/sources.list"
    cat >"$d/apt.conf" <<END
Dir::State "$d";
Dir::State::lists "$d/lists";
Dir::State::status "$d/status";
Dir::Cache "$d";
Dir::Cache::archives "$d/archives";
Dir::Etc::sourcelist "$d/sources.list";
Dir::Etc::sourceparts "$d/empty";
Dir::Etc::preferencesparts "$d/empty";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Sandbox::User "root";
END
    for i in 1 2 3; do
        APT_CONFIG=$d/apt.conf apt-get -qq update >&2 && break
        [ "$i" -lt 3 ] || die "apt-get update failed for $1"
    done
    echo "$d/apt.conf"
}

# hash_text STRING...: a short digest of strings
hash_text() { printf '%s\n' "$@" | sha256sum | cut -c1-16; }

# hash_of PATH...: a short digest of files and folders (names and contents of all files in them)
hash_of() {
    local a
    for a in "$@"; do
        if [ -d "$a" ]; then
            (cd "$a" && find . -type f -print0 | sort -z | xargs -0 -r sha256sum)
        else
            sha256sum <"$a"
        fi
    done | sha256sum | cut -c1-16
}
