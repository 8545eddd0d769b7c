#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Of the initramfs that dracut makes: disks that udev's rule has not attached (their driver was there
# before udev, or the module came late).
ebb-attach --udev --all || :
