"""The soak finds nothing on a server that is right, and names whatever is left behind."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

from tests.measure import generation_soak
from tests.measure.generation_leaks import MOST_GROWTH, Books, Left, Look, books, leaks
from tests.measure.generation_soak import LEAVES, visit

RIGHT = Books(answered=7, cancelled=3, failed=0, refused=0, in_flight=0, slots_used=0, waiting=0)
SEEN = Left(7, 2, 1, 0, (), (Look(1, 100, 10), Look(2, 180, 20), Look(10, 300, 140)))
METRICS = """# TYPE ferry_request_seconds histogram
ferry_request_seconds_count{model="talker",version="1"} 5.0
ferry_request_seconds_count{model="talker",version="2"} 2.0
ferry_request_seconds_count{model="other",version="1"} 9.0
ferry_cancelled_total{model="talker",version="1"} 3.0
ferry_refused_total{model="talker",version="1",reason="deadline"} 1.0
ferry_refused_total{model="talker",version="1",reason="queue_full"} 1.0
ferry_slots_used{model="talker",version="1",instance="0"} 4.0
"""


def test_a_server_at_rest_has_leaked_nothing() -> None:
    assert leaks(RIGHT, SEEN) == []
    assert leaks(replace(RIGHT, cancelled=2), SEEN) == [], "who left early may never have been seen"


@pytest.mark.parametrize(
    ("server", "clients", "what"),
    [
        (replace(RIGHT, slots_used=1), SEEN, "1 slots used at rest"),
        (replace(RIGHT, waiting=2), SEEN, "2 waiting at rest"),
        (replace(RIGHT, in_flight=3), SEEN, "3 in flight at rest"),
        (replace(RIGHT, cancelled=1), SEEN, "do not add up: answered .* is 8"),
        (replace(RIGHT, cancelled=4), SEEN, "do not add up: answered .* is 11"),
        (replace(RIGHT, answered=6, cancelled=4), SEEN, "6 answers counted, 7 came"),
        (replace(RIGHT, failed=1, cancelled=2), SEEN, "1 failed and 0 refused, of clients 0"),
        (RIGHT, replace(SEEN, memory=(Look(1, 0, 0), Look(10, MOST_GROWTH + 2, 1))), "memory grew by 8.0 MiB"),
        (RIGHT, replace(SEEN, changed=("'a' and 'b'",)), "1 answers differ .* 'a' and 'b'"),
    ],
)
def test_what_is_left_behind_is_named(server: Books, clients: Left, what: str) -> None:
    found = leaks(server, clients)
    assert len(found) == 1
    assert re.search(what, found[0])


def test_growth_counts_from_the_first_tenth_and_without_the_recorder() -> None:
    assert SEEN.growth == (300 - 140) - (100 - 10)


def test_the_books_are_of_one_model_in_all_its_versions() -> None:
    assert books(METRICS, "talker") == Books(7, 3, 0, 2, 0, 4, 0)


def test_a_visit_follows_from_its_number() -> None:
    visits = [visit(1, number) for number in range(600)]
    assert visits == [visit(1, number) for number in range(600)]
    leaving = sum(one.stays_s is not None or one.sees is not None for one in visits)
    assert leaving / 600 == pytest.approx(LEAVES, abs=0.06)


def test_a_short_soak_finds_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.measure.generation_leaks.MOST_GROWTH", 2**26)  # so few are all warming up
    status = generation_soak.main(["--requests", "90", "--at-once", "16", "--out", str(tmp_path)])
    assert status == 0, capsys.readouterr().err
    told = orjson.loads(next(tmp_path.glob("generation-soak-*.json")).read_bytes())
    assert sum(told["clients"].values()) == 90
    assert told["clients"]["left after its reply began"] > 0
    assert told["leaks"] == []


def test_a_soak_that_finds_something_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation_soak, "read_books", lambda port, model: replace(RIGHT, slots_used=1))
    monkeypatch.setattr(generation_soak, "_SETTLE_S", 0.0)
    assert generation_soak.main(["--requests", "4", "--out", str(tmp_path)]) == 1
    assert "1 slots used at rest" in capsys.readouterr().err
