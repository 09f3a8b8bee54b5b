# SPDX-License-Identifier: MIT
"""`vbuskit gate explain`: a rule's meaning, reason and remedy, or the list of all."""

from __future__ import annotations

import pytest

from vbuskit.base.errors import Exit
from vbuskit.ci import cli
from vbuskit.migration.explanations import EXPLANATIONS


@pytest.mark.parametrize("rule", EXPLANATIONS)
def test_a_rule_is_explained_in_three_lines(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gate", "explain", rule]) == Exit.OK
    what, why, act = capsys.readouterr().out.splitlines()
    assert what.startswith(f"{rule}: ") and why.startswith("why: ") and act.startswith("do: ")
    assert EXPLANATIONS[rule].source in why


def test_without_a_rule_all_of_them_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gate", "explain"]) == Exit.OK
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(EXPLANATIONS)


def test_a_rule_that_there_is_not_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gate", "explain", "nonsense"]) == Exit.USAGE
    assert "no rule 'nonsense'" in capsys.readouterr().err
