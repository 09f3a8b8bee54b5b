#!/bin/sh
# SPDX-License-Identifier: MIT
# Put into scripts that make a kernel's initrd, in place of the line that sources it. They set `release`, `needed`,
# `package` and `signed`.
# shellcheck disable=SC2034

# shellcheck source=kmp/scripts/initrd.sh disable=SC1091
. ./initrd.sh

index_modules() {
    if [ -d "/lib/modules/$release/kernel" ]; then
        depmod -a "$release"
    fi
}

# Made here and not by the trigger of initramfs-tools: that knows the newest kernel only, looks into nothing, and fails
# in the name of another package. What an administrator told update-initramfs holds here as well, and where somebody has
# put another program in its place, as on live media, that is asked.
make_initrd() {
    find_initrd || return 0
    program=/usr/sbin/update-initramfs
    if [ "$(dpkg-divert --truename "$program" 2>/dev/null || echo "$program")" != "$program" ]; then
        why="update-initramfs failed, as it says above"
        update-initramfs -u -k "$release"
        return
    fi
    if ! command -v mkinitramfs >/dev/null && ! command -v dracut >/dev/null; then
        echo "$package: neither mkinitramfs nor dracut is here, so $initrd stays as it is" >&2
        return 0
    fi
    read_settings
    if [ "$update_initramfs" = no ]; then
        echo "$package: $initrd stays as it is: $settings says update_initramfs=no" >&2
        return 0
    fi
    keep_booted
    renew_initrd && tell_boot_loaders
}

read_settings() {
    settings=/etc/initramfs-tools/update-initramfs.conf update_initramfs=yes backup_initramfs=no
    # shellcheck source=/dev/null
    [ ! -r "$settings" ] || . "$settings"
}

# NAME.bak is the initrd that this machine booted by, where the administrator wants one.
keep_booted() {
    [ "$backup_initramfs" != no ] && [ -r /proc/uptime ] || return 0
    seconds=$(cut -d . -f 1 /proc/uptime)
    if [ ! -e "$initrd.bak" ] || [ -n "$(find "$initrd.bak" -mtime "+$((seconds / 86400))")" ]; then
        ln -f "$initrd" "$initrd.bak" 2>/dev/null || :
    fi
}

tell_boot_loaders() {
    why="a program in /etc/initramfs/post-update.d failed, as it says above"
    [ ! -d /etc/initramfs/post-update.d ] ||
        run-parts --arg="$release" --arg="$initrd" /etc/initramfs/post-update.d
}
