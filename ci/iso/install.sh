#!/bin/sh
# SPDX-License-Identifier: MIT
# Install the packages that fit the running kernel from this ISO: sh /mnt/linux/install.sh [--check]
#
#   --check              look only: verify everything, say what would be installed and why
#   --kernel RELEASE     for this kernel instead of the running one, as uname -r says it there
#   --certificate FILE   check manifest.p7s against this certificate (PEM or DER; needs openssl)
#
# Exit codes: 0 installed, or with --check: fits; 1 dpkg or rpm failed; 2 wrong words; 3 root, a program or a
# file is missing; 4 something on the ISO is not what the manifest says; 5 no package for this kernel;
# 6 installed, but the initrd was not made again: a boot by it goes without these drivers.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
check=no
kernel=
certificate=

leave() {
    code=$1
    shift
    printf 'install.sh: %s\n' "$@" >&2
    exit "$code"
}

usage() { sed -n '3,11s/^# \{0,1\}//p' "$root/linux/install.sh"; }

read_words() {
    while [ $# -gt 0 ]; do
        case $1 in
        --check) check=yes ;;
        --certificate)
            [ $# -ge 2 ] || leave 2 "--certificate needs a file"
            certificate=$2
            [ -r "$certificate" ] || leave 3 "$certificate: cannot be read"
            shift
            ;;
        --kernel)
            [ $# -ge 2 ] || leave 2 "--kernel needs a release, as uname -r says it"
            kernel=$2
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) leave 2 "$1: not understood; --help lists the words" ;;
        esac
        shift
    done
}

need_programs() {
    command -v sha256sum >/dev/null || leave 3 "sha256sum is missing, so nothing can be verified"
    [ "$check" = yes ] || [ "$(id -u)" = 0 ] || leave 3 "only root may install; --check looks without root"
}

# Sets `family`: whose database has itself. Either may lie around as a mere tool on a system of the other one.
choose_family() {
    if [ "$(dpkg-query -W -f '${db:Status-Status}' dpkg 2>/dev/null)" = installed ]; then
        family=deb manager=dpkg
    elif rpm -q rpm >/dev/null 2>&1; then
        family=rpm manager=rpm
    else
        leave 3 "neither dpkg nor rpm manages this system; the packages are in linux/deb and linux/rpm"
    fi
}

# The sums cover every file; the manifest covers the sums; the signature covers the manifest.
verify_files() {
    for file in manifest.json manifest.p7s SHA256SUMS; do
        [ -f "$root/$file" ] || leave 4 "$file: is not there: this is no whole driver ISO"
    done
    sums=$(sha256sum <"$root/SHA256SUMS" | cut -d ' ' -f 1)
    grep -q "\"$sums\"" "$root/manifest.json" || leave 4 "SHA256SUMS: is not the one of the manifest"
    wrong=$(cd "$root" && LC_ALL=C sha256sum -c --quiet --strict SHA256SUMS 2>&1) ||
        leave 4 "not what the manifest says, nothing was installed:" "$wrong"
}

verify_signature() {
    if [ -z "$certificate" ]; then
        echo "install.sh: the signature was not checked; --certificate FILE checks it (FILE not from this ISO)"
        return 0
    fi
    command -v openssl >/dev/null || leave 3 "openssl is missing, so the signature cannot be checked"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    openssl x509 -in "$certificate" -out "$work/trusted.pem" 2>/dev/null ||
        openssl x509 -inform DER -in "$certificate" -out "$work/trusted.pem" 2>/dev/null ||
        leave 3 "$certificate: is no certificate, neither PEM nor DER"
    # No check of dates: the kernel makes none, and a guest's clock may be wrong.
    openssl cms -verify -binary -inform DER -in "$root/manifest.p7s" -content "$root/manifest.json" \
        -certfile "$work/trusted.pem" -CAfile "$work/trusted.pem" -purpose any -no_check_time \
        -out /dev/null 2>/dev/null || leave 4 "manifest.p7s: was not made with the key of $certificate"
    echo "install.sh: the manifest is signed by $(openssl x509 -noout -subject -in "$work/trusted.pem")"
}

# The `kernel`, or the `name`, and the file of each package of the family that has one, a line each, as the
# manifest says: what else lies on the ISO was not verified.
listed() {
    awk -F '"' -v word="$1" -v folder="linux/$family/" '
        $2 == "file" { file = $4 }
        $2 == word && $4 != "" && index(file, folder) == 1 { print $4, file }' "$root/manifest.json"
}

# The file of what is listed as $2; see `listed`.
file_of() { listed "$1" | while read -r its file; do [ "$its" != "$2" ] || echo "$root/$file"; done; }

# Sets `package`.
choose_package() {
    which="kernel $kernel"
    [ -n "$kernel" ] || which="the running kernel, $(uname -r)"
    kernel=${kernel:-$(uname -r)}
    package=$(file_of kernel "$kernel")
    [ -n "$package" ] || leave 5 "no $family package for $which; this ISO has one for: $(kernels)" \
        "boot one of these, or have an ISO made for yours: vbuskit iso --kernel $kernel"
}

kernels() { listed kernel | cut -d ' ' -f 1 | sort -u | paste -s -d ' ' | sed 's/^$/none/'; }

# Sets `common`, which `package` needs; empty where a newer one is installed, for other kernels' packages need that.
choose_common_deb() {
    common=$(file_of name vbus-common)
    state=$(dpkg-query -W -f '${db:Status-Status} ${Version}' vbus-common 2>/dev/null) || state=
    its=$(dpkg-deb -f "$common" Version)
    case $state in
    "installed "*) ! dpkg --compare-versions "${state#* }" gt "$its" || common= ;;
    esac
}

choose_common_rpm() { common=$(file_of name vbus); }

explain() {
    echo "install.sh: $(basename -- "$package") fits $which, and $manager manages this system" \
        "${common:+(with $(basename -- "$common"), which it needs)}"
}

# dpkg configures nothing that lacks a package; what it could configure, and did not, has said why.
install_deb() {
    dpkg -i ${common:+"$common"} "$package" || {
        # shellcheck disable=SC2016
        case $(dpkg-query -W -f '${db:Status-Status}' "${name%%_*}" 2>/dev/null) in
        half-configured) next="$name is not set up, for the reason above; mend that, then: dpkg --configure -a" ;;
        *) next="where packages are missing: apt-get --fix-broken install" ;;
        esac
        leave 1 "$name: dpkg failed, see above" "$next"
    }
}

# -F leaves a newer one alone. -U would remove other kernels' modules, for they have the same name.
install_rpm() {
    how=-i
    ! rpm -q vbus >/dev/null 2>&1 || how=-F
    rpm "$how" "$common" || leave 1 "$(basename -- "$common"): rpm failed, see above"
    rpm -i --replacepkgs "$package" ||
        leave 1 "$name: rpm failed, see above" "zypper and dnf resolve more, with linux/rpm as a repository: README.txt"
}

# The name of the initrd that the kernel boots by (kmp/scripts/initrd.sh finds it there), and what tells a new one.
initrd_now() {
    stat -c '%n %i %y' "/boot/initrd.img-$kernel" "/boot/initramfs-$kernel.img" "/boot/initrd-$kernel" \
        "/lib/modules/$kernel/initrd" /efi/*/"$kernel/initrd" /boot/*/"$kernel/initrd" \
        /boot/efi/*/"$kernel/initrd" 2>/dev/null | head -n 1
}

# Whoever was to make it may have failed without a word, as rpm's scriptlets do, or was told not to.
see_initrd() {
    [ -n "$before" ] && [ "$(initrd_now)" = "$before" ] || return 0
    again="update-initramfs -u -k $kernel"
    command -v update-initramfs >/dev/null || again="dracut --force --add vbus --kver $kernel"
    leave 6 "installed $name, but ${before%% *} was not made again: a boot by it goes without these drivers" \
        "before a boot needs them: $again"
}

install_package() {
    name=$(basename -- "$package")
    if [ "$check" = yes ]; then
        echo "install.sh: everything is what the manifest says; nothing was installed"
        return 0
    fi
    before=$(initrd_now)
    "install_$family"
    see_initrd
    echo "install.sh: installed $name"
}

read_words "$@"
need_programs
choose_family
verify_files
verify_signature
choose_package
"choose_common_$family"
explain
install_package
