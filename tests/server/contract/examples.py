"""A small valid manifest, profile and version folder, as data that tests damage."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.contract.layout import MANIFEST, PROFILE, describe_file, write_json

DEVICE: dict[str, Any] = {"processor": "A chip", "cores": 2, "runtime": "onnxruntime 1.0"}

MANIFEST_JSON: dict[str, Any] = {
    "schema": 1,
    "name": "demo",
    "backend": "onnxruntime",
    "files": [{"path": "model.onnx", "sha256": "ab" * 32, "bytes": 5}],
    "inputs": [
        {"name": "ids", "datatype": "INT64", "shape": ["batch", "length"]},
        {"name": "extra", "datatype": "FP32", "shape": ["batch", 4]},
    ],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": ["batch", 3]}],
    "ragged": {"axis": "length", "shortest": 1, "longest": 32, "pads": {"ids": 0}, "mixes": True},
    "max_rows": 8,
    "checks": [{"name": "rows", "passed": True, "detail": "up to 8 rows"}],
    "lineage_sha256": "cd" * 32,
}


def cell(rows: int, length: int = 0, p50_s: float | None = None) -> dict[str, Any]:
    time_s = 0.001 * rows * max(1, length) if p50_s is None else p50_s
    return {
        "rows": rows, "length": length, "p50_s": time_s, "p95_s": 2 * time_s, "p99_s": 3 * time_s, "samples": 5,
        "memory_bytes": 10,
    }  # fmt: skip


PROFILE_JSON: dict[str, Any] = {
    "schema": 1,
    "device": DEVICE,
    "placement": {"instances": 2, "threads": 1},
    "cells": [cell(rows, length) for rows in (1, 8) for length in (1, 32)],
}

GENERATION_JSON: dict[str, Any] = {
    "tokenizer": "tokenizer.json",
    "template": "chat_template.jinja",
    "specials": {"bos_token": "<s>"},
    "ends": [2, 0],
    "vocabulary": 64,
    "longest": 256,
    "kept": {"layers": 2, "heads": 1, "head_size": 16, "datatype": "FP32"},
}

STEPS_JSON: dict[str, Any] = {
    "schema": 1,
    "device": DEVICE,
    "placement": {"instances": 1, "threads": 2},
    "decode": [
        {"rows": rows, "context": context, "p50_s": 1.0 * rows, "p99_s": 1.5 * rows, "samples": 9}
        for rows in (1, 4)
        for context in (64, 128)
    ],
    "prefill": [{"tokens": tokens, "p50_s": 0.5 * tokens, "p99_s": 1.0 * tokens, "samples": 9} for tokens in (16, 64)],
}


def changed(data: Mapping[str, Any], path: str, value: object) -> dict[str, Any]:
    """A deep copy with one place replaced ("inputs.0.shape"); `...` removes it."""
    result: Any = copy.deepcopy(dict(data))
    place = result
    *way, last = path.split(".")
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return result  # type: ignore[no-any-return]


def write_version(folder: Path, name: str = "demo", content: bytes = b"model") -> Path:
    """A version folder that verifies, around a file that no library could load."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    entry = describe_file(folder / "model.onnx")
    files = [{"path": entry.path, "sha256": entry.sha256, "bytes": entry.bytes}]
    write_json(folder / MANIFEST, {**MANIFEST_JSON, "name": name, "files": files})
    write_json(folder / PROFILE, PROFILE_JSON)
    return folder
