#!/bin/sh
# SPDX-License-Identifier: MIT
# Put into scripts that run before a removal, in place of the line that sources it. They set `package`: who speaks.
# shellcheck disable=SC2154

# What a block device (its folder in /sys) is needed for now, each ending in ", ". Mounts of every namespace count;
# btrfs has no number of its device in mountinfo, and names only one of several.
needs_of() (
    name=${1##*/} number=$(cat "$1/dev")
    place=$(cat /proc/1/mountinfo /proc/[0-9]*/mountinfo 2>/dev/null | sed -n \
        -e "s,^[^ ]* [^ ]* $number [^ ]* \([^ ]*\) .*,\1,p" \
        -e "s,^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .* - [^ ]* /dev/$name .*,\1,p" | head -n 1)
    case $place in
    '') ;;
    /) printf '%s' "$name (the root file system), " ;;
    *) printf '%s' "$name (mounted on $place), " ;;
    esac
    if grep -qs "^/dev/${name}[[:space:]]" /proc/swaps; then
        printf '%s' "$name (swap), "
    fi
    for volume in /sys/fs/btrfs/*/devices/"$name"; do
        [ -n "$place" ] || [ ! -e "$volume" ] || printf '%s' "$name (a part of a btrfs), "
    done
    for holder in "$1"/holders/*; do
        [ -e "$holder/dev" ] || continue
        printf '%s' "$name (held by ${holder##*/}), "
        needs_of "$holder"
    done
)

# Disks of our driver and their partitions.
disks_in_use() {
    for disk in /sys/block/vb*; do
        case $(readlink "$disk/device/driver") in
        */vblk) ;;
        *) continue ;;
        esac
        for node in "$disk" "$disk"/vb*; do
            [ ! -e "$node/dev" ] || needs_of "$node"
        done
    done
}

# Fails, in words, where the machine needs a disk on the bus: the next boot would not find it.
refuse_if_needed() {
    used=$(disks_in_use)
    [ -n "$used" ] || return 0
    echo "$package: stays, for this machine needs disks on the bus: ${used%, }; the next boot would not find them." \
        "Move them to another bus, or let go of them, and remove it again" >&2
    return 1
}
