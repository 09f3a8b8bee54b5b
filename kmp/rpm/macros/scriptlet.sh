# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# Put into each scriptlet of the package, which ends by calling one of these with rpm's own words. SUSE's scripts
# know better: where they are, they decide. KMP_NEEDS_MKINITRD says that the package is one for booting (-b).
tools=/usr/lib/module-init-tools
release='@KERNEL@'
package='@NAME@-@VERSION@-@RELEASE@'
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

# dracut writes beside the old initrd and renames: one that fails leaves the old one.
kmp_initrd() {
    [ -n "${KMP_NEEDS_MKINITRD-}" ] && kernel_is_installed && command -v dracut >/dev/null || return 0
    image=/boot/initrd.img-$release # Debian's name; dracut itself says initramfs-RELEASE.img
    if [ -e "$image" ]; then
        dracut --force --kver "$release" "$image"
    else
        dracut --force --kver "$release"
    fi
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

kmp_preun() {
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
        [ "$1" != 0 ] || kmp_initrd
    fi
    rm -f "$listing"
}

kmp_posttrans() {
    kmp_by_suse posttrans "$@"
    [ -x "$tools/weak-modules2" ] || kmp_initrd
}

