# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2154,SC2034
# Put into each scriptlet of the package, after what is in kmp/scripts; it ends by calling one of these with rpm's own
# words. SUSE's scripts know better: where they are, they decide. KMP_NEEDS_MKINITRD says that the package is one for
# booting (-b).
tools=/usr/lib/module-init-tools
release='@KERNEL@'
package='@NAME@-@VERSION@-@RELEASE@'
needed="$release/updates/vbus.ko $release/updates/vblk.ko rules.d/61-vblk.rules"
signed='@SIGNED@'
listing=/run/rpm-$package-modules

kmp_by_suse() {
    step=$1
    shift
    [ -x "$tools/kernel-scriptlets/kmp-$step" ] || return 0
    exec "$tools/kernel-scriptlets/kmp-$step" --name '@NAME@' --version '@VERSION@' --release '@RELEASE@' \
        --kernelrelease "${release%-@FLAVOUR@}" --flavor '@FLAVOUR@' --usrmerged 0 "$@"
}

kernel_is_installed() { [ -d "/lib/modules/$release/kernel" ]; }

kmp_index() {
    if kernel_is_installed; then
        depmod -a "$release"
    fi
}

kmp_initrd() {
    [ -n "${KMP_NEEDS_MKINITRD-}" ] && kernel_is_installed && find_initrd || return 0
    if ! command -v dracut >/dev/null; then
        echo "$package: no dracut is here, so $initrd stays as it is" >&2
        return 0
    fi
    renew_initrd
}

kmp_pre() { kmp_by_suse pre "$@"; }

kmp_post() {
    kmp_by_suse post "$@"
    if [ -x "$tools/weak-modules2" ]; then
        "$tools/weak-modules2" --add-kmp "$package"
    else
        kmp_index
    fi
}

# Whether the kernel that runs has its disk driver from this package: it is the package's own, or has been lent it.
kmp_serves() {
    running=$(uname -r)
    [ "$running" != "$release" ] || return 0
    for lent in "/lib/modules/$running"/weak-updates/updates/vblk.ko*; do
        case $(readlink "$lent") in */"$release"/*) return 0 ;; esac
    done
    return 1
}

kmp_preun() {
    if [ "$1" = 0 ] && kmp_serves; then
        refuse_if_needed || return 1
    fi
    kmp_by_suse preun "$@"
    rpm -ql "$package" | sed -n '/\.ko$/p' >"$listing"
}

kmp_postun() {
    kmp_by_suse postun "$@"
    if [ -e "$(head -n 1 "$listing")" ]; then
        : # `rpm --reinstall`: they are there again
    elif [ -x "$tools/weak-modules2" ]; then
        "$tools/weak-modules2" --remove-kmp "$package" <"$listing"
    else
        kmp_index
        needed=
        [ "$1" != 0 ] || kmp_initrd ||
            echo "$package: $why; it may still have the drivers, which does no harm" >&2
    fi
    rm -f "$listing"
}

kmp_posttrans() {
    kmp_by_suse posttrans "$@"
    [ -x "$tools/weak-modules2" ] || kmp_initrd || {
        echo "$package: $why; mend that, then install the package once more" \
            "(dnf reinstall, zypper install --force, rpm --reinstall)" >&2
        return 1
    }
}

