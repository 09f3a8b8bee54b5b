# SPDX-License-Identifier: MIT
"""Real situations, each judged as it should be; docs/gate-situations.md is what they make."""

from __future__ import annotations

import pytest

from vbuskit.migration.explanations import EXPLANATIONS
from vbuskit.migration.situations import PAGE, Situation, page, rules_of, situations

ALL = situations()


@pytest.mark.parametrize("situation", ALL, ids=lambda situation: situation.thread)
def test_a_real_situation_gets_its_verdict_and_the_rules_that_explain_it(situation: Situation) -> None:
    found = situation.judgement
    assert (found.verdict, rules_of(found.findings)) == (situation.verdict, situation.rules)
    for finding in found.findings:
        assert finding.reason and (finding.remedies or finding.rule == "driver-version")
        assert "\n" not in str(finding)


def test_there_are_at_least_thirty_of_as_many_threads() -> None:
    assert len({situation.thread for situation in ALL}) == len(ALL) >= 30


def test_every_rule_is_met_in_a_situation() -> None:
    assert {rule for situation in ALL for rule in situation.rules} == set(EXPLANATIONS)


def test_a_rule_gives_the_verdicts_that_its_explanation_says() -> None:
    for situation in ALL:
        for finding in situation.judgement.findings:
            assert finding.verdict in EXPLANATIONS[finding.rule].verdicts, finding


def test_the_page_is_what_the_situations_make() -> None:
    """`.venv/bin/python -m vbuskit.migration.situations` writes it."""
    assert PAGE.read_text() == page(ALL)
