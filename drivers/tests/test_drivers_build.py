# SPDX-License-Identifier: MIT
"""What a failed step of the C half says."""

from __future__ import annotations

from vbuskit.drivers.build import refusals

OUTPUT = """\
 1/13 core-ioq        OK              0.03s   9 subtests passed
ok 1 - test_that_holds
not ok 2 - test_that_does_not
# test_that_does_not:41: status().restarts == 9
13/13 host-session    FAIL            9.81s   exit status 1
 9/13 host-tap        TIMEOUT       300.02s   killed by signal 15 SIGTERM
13/13 host-session    FAIL            9.81s   exit status 1
"""


def test_a_failure_says_which_test_failed_and_where() -> None:
    told = refusals(OUTPUT)
    assert "not ok 2 - test_that_does_not; # test_that_does_not:41: status().restarts == 9" in told
    assert "host-session    FAIL" in told and "host-tap        TIMEOUT" in told
    assert told.count("FAIL") == 1
    assert "ok 1" not in told and "core-ioq" not in told


def test_a_success_says_nothing() -> None:
    assert refusals("ok 1 - fine\n 1/1 core OK 0.1s") == ""
