#!/bin/bash
# SPDX-License-Identifier: MIT
# dracut.modules(7): the bus, its NIC and its disk, with the udev rules by which a root disk on the bus is found. An
# image for any machine has them; one for this machine only (hostonly) has them where there is a bus, or by --add vbus.

# As vbus.ko's identify() knows its bridge, without the window's first word: that only a driver can read. So another
# ivshmem device of such a size counts, too, which costs an image three small modules.
vbus_is_here() {
    local device start end
    [[ -d /sys/bus/vbus ]] && return 0
    for device in /sys/bus/pci/devices/*; do
        [[ -r $device/resource && $(< "$device/vendor") == 0x1af4 && $(< "$device/device") == 0x1110 ]] || continue
        { read -r && read -r && read -r start end _; } < "$device/resource" # BAR 2: the third line
        ((end - start + 1 >= 1 << 20 && end - start + 1 <= 256 << 20)) && return 0
    done
    return 1
}

# 255: not by itself, but whoever asks for it gets it.
check() {
    [[ $hostonly || $mount_needs ]] || return 0
    vbus_is_here || return 255
}

depends() {
    echo udev-rules
}

# hostonly='': a disk that is plugged in later needs vblk, and a root on the network venet, whatever is loaded today.
# Never a failure: dracut would end without an image, also where this kernel's root disk is on another bus.
# shellcheck disable=SC2154 # kernel is dracut's
installkernel() {
    hostonly='' instmods -c -s vbus vblk venet && return 0
    derror "vbus: kernel $kernel lacks vbus, vblk or venet: with this image it reaches no disk on the bus"
    derror "vbus: next: install our modules for $kernel, then: dracut --force --kver $kernel"
    return 0
}

install() {
    inst_rules 61-vblk.rules 61-vbus.rules 81-vbus.rules
}
