#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Module of dracut, for master targets: udev's rule and the marks of replicas. (What is marked later
# is safe too as long as the command line names what is assembled, which is dracut's way: no rd.auto.)

check() {
    [ -d /etc/ebb/replicas ] || grep -qs '"target"' /etc/ebb/ebbd.json
}

depends() {
    echo udev-rules
}

install() {
    local mark
    inst_rules 60-ebb.rules
    for mark in /etc/ebb/replicas/*; do
        if [ -e "$mark" ]; then inst_simple "$mark"; fi
    done
}
