from __future__ import annotations

import orjson
import pytest

from loadtests.verdicts import Round, Side, Verdict, over_rounds, verdict_lines, verdict_table, verdict_values, verdicts_of


@pytest.mark.parametrize(
    ("found", "side", "told"),
    [
        (0.95, Side.AT_LEAST, "holds"),
        (0.90, Side.AT_LEAST, "MISSES by 5.3%"),
        (0.95, Side.AT_MOST, "holds"),
        (1.045, Side.AT_MOST, "MISSES by 10.0%"),
        (None, Side.AT_LEAST, "MISSES: not reached"),
        (float("inf"), Side.AT_MOST, "MISSES: not reached"),
    ],
)
def test_a_claim_holds_or_misses_by_so_much(found: float | None, side: Side, told: str) -> None:
    one = Verdict("goodput", found, side, 0.95)
    assert one.told == told
    assert one.holds is (told == "holds")


def test_verdicts_are_told_in_a_terminal_in_a_document_and_in_a_file() -> None:
    told = [Verdict("goodput", 0.97, Side.AT_LEAST, 0.95), Verdict("recovery", float("inf"), Side.AT_MOST, 1)]
    assert verdict_table(told).splitlines()[2].split() == ["goodput", "0.97", ">=", "0.95", "holds"]
    assert verdict_lines(told)[2] == "| goodput | 0.97 | >= 0.95 | holds |"
    values = orjson.loads(orjson.dumps(verdict_values(told)))
    assert [(one["found"], one["side"], one["holds"]) for one in values] == [(0.97, ">=", True), (None, "<=", False)]


def test_verdicts_are_read_as_they_were_written() -> None:
    told = [Verdict("goodput", 0.97, Side.AT_LEAST, 0.95), Verdict("recovery", None, Side.AT_MOST, 1)]
    assert verdicts_of(orjson.loads(orjson.dumps({"verdicts": verdict_values(told)}))) == told


def judged(*rounds: Round) -> Verdict:
    return over_rounds("goodput", rounds, Side.AT_LEAST, 0.8)


def test_rounds_whose_load_was_not_what_was_meant_do_not_count() -> None:
    one = judged(Round(0.9, valid=False), Round(0.7), Round(0.6))
    assert (one.found, one.told) == (pytest.approx(0.65), "MISSES by 18.8%")


def test_with_most_rounds_void_so_is_the_claim_whatever_was_found() -> None:
    one = judged(Round(0.9, valid=False), Round(0.95, valid=False), Round(0.99))
    assert (one.found, one.told, one.holds) == (0.95, "VOID", False)
    assert verdicts_of(orjson.loads(orjson.dumps({"verdicts": verdict_values([one])}))) == [one]


def test_what_was_not_found_is_left_out() -> None:
    assert judged(Round(None), Round(0.9)).found == 0.9
    assert judged(Round(None)).told == "MISSES: not reached"
