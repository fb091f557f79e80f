"""What the backlog's answers and seconds become in a result."""

from __future__ import annotations

from loadtests.generation.claims import ENGINE, ENGINE_STATIC
from loadtests.generation.joining import Joining
from loadtests.generation.measured import beside
from loadtests.generation.work import Work

WORK = Work([[9]] * 4, [2] * 4)
FERRY, STATIC, WAVES = Joining.CONTINUOUS.value, Joining.STATIC.value, Joining.WAVES.value


def test_answers_that_differ_in_any_round_are_told() -> None:
    same, longer = ["aa", "bb", "cc", "dd"], ["aax", "bb", "ccx", "dd"]
    texts = {
        FERRY: [same, ["aa", "bb", "cc", "zz"], same],
        WAVES: [same, same, same],
        STATIC: [longer, longer, longer],
        ENGINE: [["aa", "bb", "zz", "zz"], same, same],
        ENGINE_STATIC: [same, same, same],
    }
    found = beside({name: [1.0, 2.0, 4.0] for name in texts}, texts, WORK, 2)
    assert found["same_answers"] == {FERRY: 0.75, WAVES: 1.0, STATIC: 1.0, ENGINE: 0.5, ENGINE_STATIC: 1.0}
    assert found["same_answers_by_round"][ENGINE] == [0.5, 1.0, 1.0]
    assert found["tokens_per_s"][FERRY] == [8.0, 4.0, 2.0]
