#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# stock_guest.sh SYSTEM_WWN [RULE...]: in a guest started without udev, makes of it what Debian would
# have installed: LVM and mdadm with their own configuration and rules, which activate and assemble
# what they see. /etc/ebb and /var/lib/ebb are on the disk SYSTEM_WWN, as if it was the root file
# system: they are there before udev starts. RULE: rules of the product that are installed. Then udev
# starts as at boot.
set -e
stock=/usr/share/ebb-lab/stock
cp "$stock/lvm.conf" /etc/lvm/lvm.conf
if [ -e "$stock/mdadm.conf" ]; then cp "$stock/mdadm.conf" /etc/mdadm/; else rm -f /etc/mdadm/mdadm.conf; fi
cp "$stock/64-md-raid-assembly.rules" /usr/lib/udev/rules.d/
# Not asked for by name: found by udev where they are loaded on demand.
modprobe -a dm_mod raid1
wwn=$1
shift
system=
for d in /sys/block/sd*; do
    if grep -qi "$wwn" "$d/device/wwid"; then system=/dev/${d##*/}; fi
done
[ -n "$system" ]
blkid "$system" >/dev/null || mkfs.ext4 -q "$system"
mkdir -p /var/lib/ebb /etc/ebb
mount "$system" /var/lib/ebb
mkdir -p /var/lib/ebb/etc-ebb
mount --bind /var/lib/ebb/etc-ebb /etc/ebb
for rule in "$@"; do cp "$rule" /usr/lib/udev/rules.d/; done
/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add --subsystem-match=block
udevadm settle --timeout=120
