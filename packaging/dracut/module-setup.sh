#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Module of dracut.
#
# Sources with a map device: the module ebb, ebb-attach, its udev rule and /etc/ebb/map.conf, so that
# disks are attached before anything can write to them.
#
# Master targets: udev's rule and the marks of replicas. (What is marked later is safe too as long as
# the command line names what is assembled, which is dracut's way: no rd.auto.)

has_map() {
    [ -e /etc/ebb/map.conf ]
}

check() {
    has_map || [ -d /etc/ebb/replicas ] || grep -qs '"target"' /etc/ebb/ebbd.json
}

depends() {
    echo udev-rules
}

installkernel() {
    if has_map; then instmods ebb; fi
}

# What this image attaches, for ebbd.
note_image() {
    # shellcheck disable=SC2154  # dracut sets them
    case $dracutsysrootdir:$outfile in
    :*kdump* | :*rescue*) ;;
    :/boot/* | :/efi/*)
        mkdir -p /var/lib/ebb/initramfs
        cp "$initdir/etc/ebb/map.conf" "/var/lib/ebb/initramfs/$kernel"
        ;;
    esac
}

install() {
    local mark
    inst_rules 60-ebb.rules
    for mark in /etc/ebb/replicas/*; do
        if [ -e "$mark" ]; then inst_simple "$mark"; fi
    done
    has_map || return 0
    inst_multiple ebb-attach modprobe
    inst_rules 10-ebb-attach.rules
    inst_simple /etc/ebb/map.conf
    note_image
    # shellcheck disable=SC2154  # dracut sets it
    local here=$moddir
    # Before what is found is assembled, activated or mounted.
    inst_hook initqueue/settled 00 "$here/attach.sh"
    inst_hook pre-mount 00 "$here/attach.sh"
}
