#!/bin/sh
# SPDX-License-Identifier: MIT
# Put into each maintainer script, in place of the line that sources it. All take the kernel release as $1.

index_modules() {
    if [ -d "/lib/modules/$1/kernel" ]; then
        depmod -a "$1"
    fi
}

# Made here and not by the trigger of initramfs-tools: that knows the newest kernel only, and fails in the name
# of another package. The old file stays until the new one is whole. A kernel without an initrd needs none.
renew_initrd() {
    [ -e "/boot/initrd.img-$1" ] && command -v update-initramfs >/dev/null || return 0
    update-initramfs -u -k "$1"
}
