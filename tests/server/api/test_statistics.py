"""The statistics add up, whatever was batched with what."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

from tests.child_server import ChildServer

COMPUTE = ("compute_input", "compute_infer", "compute_output")
KINDS = ("success", "fail", "queue", *COMPUTE, "cache_hit", "cache_miss")


def lookup(server: ChildServer, rows: int, index: int = 1) -> int:
    item = {"name": "index", "shape": [rows, 1], "datatype": "INT64", "data": [index] * rows}
    return server.call("POST", "/v2/models/lookup/infer", {"inputs": [item]}).status


def read(server: ChildServer, path: str = "/v2/models/lookup/stats") -> Any:
    return next(entry for entry in server.call("GET", path).json["model_stats"] if entry["name"] == "lookup")


@pytest.fixture
def fresh(tiny_repository: Path, tmp_path: Path) -> Any:
    with ChildServer(tiny_repository, tmp_path / "log") as running:
        yield running


def test_the_books_balance(fresh: ChildServer) -> None:
    untouched = read(fresh)
    assert (untouched["inference_count"], untouched["execution_count"], untouched["batch_stats"]) == (0, 0, [])
    sizes = [1, 2, 3, 1, 4] * 12
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda rows: lookup(fresh, rows), sizes)) == {200}
    earlier = read(fresh)
    assert lookup(fresh, 1, index=99) == 500  # the model refuses
    assert fresh.call("POST", "/v2/models/lookup/infer", {"inputs": []}).status == 400  # never reaches the model
    entry = read(fresh)
    numbers, batches = entry["inference_stats"], entry["batch_stats"]
    assert (entry["version"], entry["response_stats"], entry["memory_usage"]) == ("1", {}, [])
    assert set(numbers) == set(KINDS)
    assert numbers["success"]["count"] == numbers["queue"]["count"] == len(sizes)
    assert numbers["fail"]["count"] == 1
    assert entry["inference_count"] == sum(sizes)
    for kind in COMPUTE:
        assert sum(batch["batch_size"] * batch[kind]["count"] for batch in batches) == sum(sizes)
        assert sum(batch[kind]["count"] for batch in batches) == entry["execution_count"]
        assert numbers[kind]["count"] == len(sizes)
    spent = numbers["queue"]["ns"] + sum(numbers[kind]["ns"] for kind in COMPUTE)
    assert spent <= numbers["success"]["ns"] + len(KINDS)  # each figure is rounded by itself
    for kind in KINDS:
        assert all(numbers[kind][what] >= earlier["inference_stats"][kind][what] for what in ("count", "ns"))
    assert entry["last_inference"] >= earlier["last_inference"] > 1_500_000_000_000
    assert read(fresh, "/v2/models/stats") == read(fresh, "/v2/models/lookup/versions/1/stats") == entry
