"""What each transform makes of the example models, on this machine: `python -m tests.measure.transforms`.

Size, agreement with the original on requests that no transform has seen, and time of a call against the plain export, interleaved.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.environment import environment, heading
from loadtests.report import markdown, write_json
from optimizer.errors import StageFailed
from optimizer.transforms.agreement import Reference
from optimizer.transforms.base import Material
from optimizer.transforms.catalog import TRANSFORMS
from optimizer.transforms.graph import load_model
from server.backends.base import Array, Session
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.layout import versions

PACKAGES = ("onnxruntime", "onnx", "onnxscript", "numpy", "torch")
PLAIN = "plain export"

Step = tuple[str, Mapping[str, Any]]
Candidate = tuple[str, tuple[Step, ...]]


@dataclass(frozen=True)
class Subject:
    """An example model: what to try on it, and the sizes (rows, length) of the calls to time; length 0: it has no free axis."""

    candidates: tuple[Candidate, ...]
    sizes: tuple[tuple[int, int], ...]


@dataclass
class Found:
    """What was measured of one candidate. `ratios`: by threads and size, the plain export's time ÷ its own, by round."""

    name: str
    n_bytes: int = 0
    cosine: float = float("nan")
    made_s: float = 0.0
    note: str = ""
    ratios: dict[str, list[float]] = field(default_factory=dict)


def _one(name: str, **options: Any) -> Candidate:
    return " ".join([name, *(str(value) for value in options.values())]), ((name, options),)


def _chain(*names: str) -> Candidate:
    return " + ".join(names), tuple((name, {}) for name in names)


_CNN = (_one("fuse"), _one("fp16"), _one("int8-static"), _one("int8-static", activations="s8"), _one("prune"), _one("low-rank"))
_ENCODER = (
    _one("fuse"), _one("fp16"), _one("int8-dynamic"), _chain("fuse", "int8-dynamic"), _one("int8-static"), _chain("fuse", "int8-static"), _one("int8-dynamic", smoothing="off"), _one("int8-static", smoothing="off"),
    _one("int8-static", calibration="percentile"), _one("int8-static", calibration="entropy"), _one("int8-static", min_cosine=0.0),
    _chain("fuse", "weights-int8"), _chain("fuse", "weights-int4"), ("fuse + weights-int4 hqq", (("fuse", {}), ("weights-int4", {"method": "hqq"}))),
    _one("prune"), _one("low-rank"),
)  # fmt: skip
SUBJECTS = {
    "digits": Subject(_CNN, ((1, 0), (64, 0))),
    "resnet18": Subject(_CNN, ((1, 0), (8, 0))),
    "minilm": Subject(_ENCODER, ((1, 32), (1, 128))),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.measure.transforms", description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--models", nargs="+", default=list(SUBJECTS), choices=SUBJECTS)
    parser.add_argument("--candidates", nargs="+", help="names of candidates as in the table; default: all of a model")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--block-s", type=float, default=0.1, help="seconds that a candidate is called for in a round")
    parser.add_argument("--out", type=Path, default=Path("loadtests/results"))
    options = parser.parse_args(arguments)
    results = {}
    for name in options.models:
        found = measure(name, options)
        results[name] = [vars(one) for one in found]
        print("\n".join(["", f"{name}:", *_table(found)]), flush=True)
    told = heading("tests.measure.transforms", sys.argv[1:] if arguments is None else arguments, vars(options))
    content = {**told, "environment": environment(PACKAGES), "models": results}
    print(f"written: {write_json(options.out, 'transforms', content)}")
    return 0


def measure(name: str, options: argparse.Namespace) -> list[Found]:
    """Make every candidate of a model, then time all of them in turns."""
    folder = options.repository / name
    plain = folder / str(max(versions(folder))) / OnnxRuntimeBackend.model_file
    known, others = _requests(name)
    with tempfile.TemporaryDirectory() as place:
        reference = Reference(load_model(plain), others)
        made = {PLAIN: (plain, Found(PLAIN, plain.stat().st_size, 1.0))}
        for label, steps in SUBJECTS[name].candidates:
            if options.candidates is None or label in options.candidates:
                path, found = _make(label, steps, plain, Path(place), Material(known))
                print(f"{name}, {label} ({found.made_s:.1f} s): {found.note}", flush=True)
                if path is not None:
                    found.cosine = reference.compare(load_model(path)).cosine
                    made[label] = path, found
        for threads in options.threads:
            for rows, length in SUBJECTS[name].sizes:
                _time(made, _batch(others, rows, length), threads, f"{threads} thread(s), {_size(rows, length)}", options)
    return [found for _, found in made.values()]


def _make(
    label: str, steps: Sequence[Step], plain: Path, place: Path, material: Material
) -> tuple[Path | None, Found]:  # fmt: skip
    began_at, path, notes = time.perf_counter(), plain, []
    folder = place / label.replace(" ", "_")
    for number, (name, given) in enumerate(steps):
        (folder / str(number)).mkdir(parents=True)
        out = folder / str(number) / OnnxRuntimeBackend.model_file
        try:
            notes.append(TRANSFORMS[name].run(path, out, material, given).note)
        except StageFailed as failure:
            return None, Found(label, note=f"failed: {failure}")
        path = out
    return path, Found(label, path.stat().st_size, made_s=time.perf_counter() - began_at, note="; then: ".join(notes))


def _time(
    made: Mapping[str, tuple[Path, Found]], batch: Mapping[str, Array], threads: int, what: str, options: argparse.Namespace
) -> None:
    sessions = {label: OnnxRuntimeBackend().load(path.parent, threads) for label, (path, _) in made.items()}
    for session in sessions.values():
        _call_s(session, batch, 0.0)
    for number in range(options.rounds):
        order = list(sessions) if number % 2 == 0 else list(sessions)[::-1]
        taken = {label: _call_s(sessions[label], batch, options.block_s) for label in order}
        for label, (_, found) in made.items():
            found.ratios.setdefault(what, []).append(taken[PLAIN] / taken[label])
    for session in sessions.values():
        session.close()


def _call_s(session: Session, batch: Mapping[str, Array], block_s: float) -> float:
    """The median call, of at least three."""
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < block_s:
        began_at = time.perf_counter()
        session.run(batch)
        taken.append(time.perf_counter() - began_at)
    return statistics.median(taken)


def _requests(name: str) -> tuple[list[dict[str, Array]], list[dict[str, Array]]]:
    """(for transforms, for judging them): different ones."""
    example = importlib.import_module(f"examples.{name}.model")
    if name == "minilm":
        singles = example.encode(example.sentences())
        order = np.random.default_rng(0).permutation(len(singles))
        return [singles[n] for n in order[:64]], [singles[n] for n in order[64:128]]
    if name == "resnet18":
        rng = np.random.default_rng(1)
        return example.samples(), [{"image": rng.random((1, 3, 224, 224), dtype=np.float32)} for _ in range(16)]
    images, _ = example.held_out()
    return example.samples(), [{"image": images[n : n + 1]} for n in range(16, 80)]


def _batch(requests: Sequence[Mapping[str, Array]], rows: int, length: int) -> dict[str, Array]:
    picked = [requests[n % len(requests)] for n in range(rows)]
    return {
        name: np.concatenate([one[name] if not length else np.resize(one[name], (1, length)) for one in picked]) for name in requests[0]
    }  # fmt: skip


def _size(rows: int, length: int) -> str:
    return f"{rows}x{length}" if length else f"batch {rows}"


def _table(found: Sequence[Found]) -> list[str]:
    cases = list(found[0].ratios)
    lines = [
        [one.name, f"{one.n_bytes / 1e6:.2f}", f"{one.cosine:.5f}", *(f"{statistics.median(one.ratios[case]):.2f}" for case in cases)]
        for one in found
    ]  # fmt: skip
    return markdown(["", "MB", "cosine", *cases], lines)


if __name__ == "__main__":
    sys.exit(main())
