from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.errors import BadInput
from loadtests.scenario import names, read


@pytest.mark.parametrize("name", names())
def test_those_that_come_along_are_right(name: str) -> None:
    assert read(name).title


def test_all_that_were_promised_come_along() -> None:
    assert set(names()) == {
        "steady", "burst", "overload", "mixed_lengths", "two_models", "two_slo_classes", "cold_start", "hot_reload", "slow_clients",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("nonsense", "scenario"),
        ("title = 'x'", r"no \[\[traffic\]\]"),
        ("[[traffic]]\nspeed = 1", "unknown key 'speed'"),
        ("[[traffic]]\nfactor = 'x'", "wrong type"),
        ("[[traffic]]\n[[action]]\nwhen = 1", "unknown key 'when'"),
        ("[[traffic]]\n[slow_clients]\nn = 1.5", "wrong type"),
    ],
)
def test_a_wrong_scenario_is_one_clear_error(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=match):
        read(str(file))
