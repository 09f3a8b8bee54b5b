#!/bin/sh
# SPDX-License-Identifier: MIT
# A worker of pytest-xdist, `worker.sh PYTHON WORDS...`, that leaves nothing, however it ends: it has a PID namespace
# of its own, and with it goes whatever its hosts, guests and commands are made of. Inside the sandbox only.
# shellcheck disable=SC2016 # what is quoted is for the shell in there
exec unshare --pid --fork --kill-child --mount-proc --propagation private -- sh -c '
    VBUSKIT_SANDBOX=$(stat -Lc %i /proc/self/ns/mnt) && export VBUSKIT_SANDBOX
    exec 3<&0  # a command in the background has another standard input
    "$@" <&3 3<&- &
    exec 3<&- </dev/null
    wait $!
' sh "$@"
