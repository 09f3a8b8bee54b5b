#!/bin/sh
# SPDX-License-Identifier: MIT
# defect.sh PROGRAM TEST: a test program with a planted defect must fail in TEST, and not merely fall over.
echo 1..1
if "$1" 2>/dev/null | grep -q "^not ok [0-9]* - $2\$"; then
    echo "ok 1 - the planted defect is found by $2"
else
    echo "not ok 1 - the planted defect is found by $2"
    exit 1
fi
