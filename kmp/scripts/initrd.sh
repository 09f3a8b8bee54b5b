#!/bin/sh
# SPDX-License-Identifier: MIT
# Put into scripts that make an initrd, in place of the line that sources it. They set `release`, the kernel;
# `needed`, files that must be in its initrd; `package`, who speaks; and `signed`, where the modules are. They tell `why`
# it failed.
# shellcheck disable=SC2154,SC2034

# Sets `initrd`, which the kernel boots by, whatever the distribution calls it; a kernel without one needs none.
find_initrd() {
    for initrd in "/boot/initrd.img-$release" "/boot/initramfs-$release.img" "/boot/initrd-$release" \
        "/lib/modules/$release/initrd" /efi/*/"$release/initrd" /boot/*/"$release/initrd" \
        /boot/efi/*/"$release/initrd"; do
        [ ! -e "$initrd" ] || return 0
    done
    return 1
}

# A draft beside it takes its place when it is whole, right and on the disk; whatever fails before, or a power cut,
# leaves the old one. The next run takes a draft away that was left.
renew_initrd() {
    draft=$initrd.vbus-new
    echo "$package: making $initrd"
    if are_for_the_kernel && are_signed && rm -f "$draft" && make_draft && draft_has_all && put_in_place; then
        return 0
    fi
    why="$why, so $initrd stays as it was"
    rm -f "$draft"
    return 1
}

# A module that was built for another kernel would be found out by the boot that needs it.
are_for_the_kernel() {
    layout=$(layout_of "$(find "/lib/modules/$release/kernel" -name '*.ko*' -print -quit 2>/dev/null)")
    for file in $needed; do
        case $file in *.ko | *.ko.*) ;; *) continue ;; esac
        magic=$(modinfo -F vermagic "/lib/modules/$file")
        case $magic in
        "$release "*) ;;
        *)
            why="/lib/modules/$file is built for another kernel: ${magic:-none}"
            return 1
            ;;
        esac
        its=$(layout_of "/lib/modules/$file")
        if [ -n "$layout" ] && [ "$its" != "$layout" ]; then
            why="/lib/modules/$file is of another kernel, whatever it says: module_layout is ${its:-none}, not $layout"
            return 1
        fi
    done
}

# The version of what describes a module to the kernel, the same for all its modules; none where symbols have no versions.
layout_of() { modprobe --dump-modversions "$1" 2>/dev/null | sed -n 's/[[:space:]]module_layout$//p'; }

# A package that was opened and packed again may have lost signatures, as strip takes them away. The kernel that runs may
# do without, and the next boot, with Secure Boot, may not.
are_signed() {
    [ -n "${signed-}" ] || return 0
    for file in $needed; do
        case $file in *.ko | *.ko.*) ;; *) continue ;; esac
        [ -n "$(modinfo -F sig_id "/lib/modules/$file")" ] && continue
        why="/lib/modules/$file has lost its signature, and with Secure Boot no kernel loads it"
        return 1
    done
}

# Debian has mkinitramfs in a package that stays where dracut has taken initramfs-tools away, and by mkinitramfs alone
# an encrypted root, say, would not be found.
dracut_took_over() {
    command -v dracut >/dev/null || return 1
    # shellcheck disable=SC2016
    case $(dpkg-query -W -f '${db:Status-Status}' initramfs-tools 2>/dev/null) in
    '' | not-installed | config-files) ;;
    *) return 1 ;;
    esac
}

# Whichever program there is. A hostonly image of dracut has the bus only where one is, or by its name.
make_draft() {
    if command -v mkinitramfs >/dev/null && ! dracut_took_over; then
        why="mkinitramfs failed, as it says above" lister=lsinitramfs
        mkinitramfs -o "$draft" "$release"
    else
        why="dracut failed, as it says above" lister=lsinitrd
        dracut ${needed:+--add vbus} --kver "$release" "$draft"
    fi
}

# A program may say that all is well and have written half, or have lost what it was to take along. What is compressed
# on the disk (.ko.xz) need not be so in there.
draft_has_all() {
    command -v "$lister" >/dev/null || return 0
    why="$lister cannot read the new one to its end"
    listing=$("$lister" "$draft") && [ -n "$listing" ] || return 1
    missing=
    for file in $needed; do
        case $file in *.ko.*) file=${file%.*} ;; esac
        case $listing in
        *"/$file"*) ;;
        *) missing="$missing ${file##*/}" ;;
        esac
    done
    why="the new one has no$missing"
    [ -z "$missing" ]
}

put_in_place() {
    why="the new one could not be written to the disk"
    sync "$draft" && mv -f "$draft" "$initrd" || return 1
    sync -f "$initrd" || :
}
