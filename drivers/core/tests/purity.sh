#!/bin/sh
# SPDX-License-Identifier: MIT
# purity.sh CC DRIVERS: the core compiles with nothing but the compiler's own headers, and asks for nothing at link time.
set -eu
compiler=$1 drivers=$2
own=$("$compiler" -print-file-name=include)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

attempt() { # FILE OUTPUT
    "$compiler" -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -nostdinc \
        -isystem "$own" -I"$drivers/core" -I"$drivers/include" -I"$drivers/ports/user" -c "$1" -o "$2"
}

echo 1..3
verdict=ok
for file in "$drivers"/core/*.c; do
    attempt "$file" "$work/$(basename "$file" .c).o" >&2 || verdict='not ok'
done
echo "$verdict 1 - the core needs no header but the compiler's own"

verdict=ok
ld -r "$work"/*.o -o "$work/all.o" >&2
wanted=$(nm -u "$work/all.o" | grep -vw -e memcpy -e memset -e memmove -e memcmp -e _GLOBAL_OFFSET_TABLE_ || true)
if [ -n "$wanted" ]; then
    echo "# wanted: $wanted" >&2
    verdict='not ok'
fi
echo "$verdict 2 - the core calls nothing outside itself but what a compiler may insert"

verdict=ok
printf '#include <stdio.h>\nint unused;\n' >"$work/impure.c"
if attempt "$work/impure.c" "$work/impure.o" 2>/dev/null; then
    verdict='not ok'
fi
echo "$verdict 3 - a header of the C library is refused by this very test"
