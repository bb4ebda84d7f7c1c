"""Claims of the demo: one that does not hold ends it and is named. Nothing is doubled."""

from __future__ import annotations

import pytest

from dispatcher.admin.demo.teller import Disproved, Teller


def test_a_claim_is_printed_once_every_pair_is_equal(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller()

    teller.prove("two and two", (2 + 2, 4), ([], []))

    assert "proof: two and two" in capsys.readouterr().out
    assert teller.claims == 1


def test_a_claim_that_does_not_hold_is_not_printed_and_names_its_step(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller()
    teller.step("first")
    teller.step("second")

    with pytest.raises(Disproved, match=r"step 2 did not hold: two copies \(seen 1, expected 2\)"):
        teller.prove("two copies", (2, 2), (1, 2))

    assert "proof" not in capsys.readouterr().out
    assert teller.claims == 0
