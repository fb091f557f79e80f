from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest

from loadtests.errors import MissingData
from loadtests.published import Cells, cells, copy_of, mean_length


def version(folder: Path) -> Path:
    made = folder / "sentences" / "3"
    made.mkdir(parents=True)
    (made / "model.onnx").write_bytes(b"weights")
    (made.parent / "model.toml").write_text('slo = "20ms"  # wanted\nmax_rows = 4\n')
    measured = [{"rows": rows, "length": length, "p50_s": rows * length / 1e3} for rows in (1, 8) for length in (10, 30)]
    (made / "profile.json").write_bytes(orjson.dumps({"cells": measured}))
    return made


def test_a_profile_tells_what_a_batch_takes_at_any_length(tmp_path: Path) -> None:
    found = cells(version(tmp_path))
    assert found.max_rows == 8
    assert found.batch_s(8, 10) == pytest.approx(0.08)
    assert found.batch_s(8, 20) == pytest.approx(0.16)
    assert Cells({(16, 0): 0.5}).batch_s(16, 0.0) == 0.5
    assert Cells({(1, 0): 0.2, (8, 0): 0.8, (16, 0): 2.0}).row_s(0) == pytest.approx(0.1), "of the best batch size"


def test_of_several_placements_the_first_tells(tmp_path: Path) -> None:
    file = version(tmp_path) / "profile.json"
    grids = [{"cells": [{"rows": 4, "length": 0, "p50_s": seconds}]} for seconds in (0.1, 0.2)]
    file.write_text(json.dumps({"schema": 3, "profiles": grids}))
    assert cells(file.parent).batch_s(4, 0) == 0.1


@pytest.mark.parametrize("content", [None, b"no json", b"{}", b'{"cells":[{"rows":1}]}', b'{"profiles":[]}'])
def test_what_is_no_profile_is_told(tmp_path: Path, content: bytes | None) -> None:
    file = version(tmp_path) / "profile.json"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(MissingData, match=r"profile\.json"):
        cells(file.parent)


@pytest.mark.parametrize(("slo_s", "told"), [(0.4724, '"472.4ms"'), (None, '"20ms"')])
def test_a_copy_has_another_objective_and_the_original_keeps_its_own(tmp_path: Path, slo_s: float | None, told: str) -> None:
    original = version(tmp_path / "models")
    model = copy_of(original, tmp_path / "copy", slo_s)
    assert (model / "model.toml").read_text() == f"slo = {told}  # wanted\nmax_rows = 4\n"
    assert (model / "3" / "model.onnx").read_bytes() == b"weights"
    assert (original.parent / "model.toml").read_text().startswith('slo = "20ms"')


def test_rows_that_are_all_alike_have_no_length() -> None:
    assert mean_length([]) == 0.0
    assert mean_length([10, 30]) == 20.0
