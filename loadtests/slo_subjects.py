"""Who is measured by `bench_slo`: a model, what a full batch of it takes, its rate without a server, and how it is served."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.child import HOST, Child, free_port, running
from loadtests.errors import BadInput
from loadtests.paced import Pace
from loadtests.peers import models
from loadtests.published import Cells, cells, copy_of, mean_length
from loadtests.wire import infer_request

PACED = "paced"
NAMES = (PACED, "minilm", "resnet18")
PACE = Pace(per_row_s=1e-3, per_batch_s=4e-3, max_rows=32)
"""A device that gains 4.4 times by batching: 889 rows per second in full batches, which leaves the processor nearly idle."""

_BINARY = ("resnet18",)
"""Models asked with binary tensors: an image as JSON costs more than the model."""

_LEAST_PACED, _LEAST_REAL = 0.95, 0.90
_SWEEP_S = 0.5


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under test. `batch_s` is a full batch by its profile, `offline` takes seconds and gives rows per second, backlogged.

    `version` is the published folder; None for the paced model, which is made as it is served. `told` goes into the result.
    """

    name: str
    version: Path | None
    requests: Sequence[bytes]
    batch_s: float
    offline: Callable[[float], float]
    least_share: float
    told: Mapping[str, Any]
    work: Sequence[float] = ()
    """What each request asks of the device, as a multiple of the mean; empty where all are alike."""

    @contextmanager
    def served(self, command: str, slo_s: float) -> Iterator[Child]:
        """A server with this model alone, under an objective; what is published stays as it is. Raises ChildFailed."""
        with tempfile.TemporaryDirectory(prefix="slo-") as scratch:
            port = free_port()
            flags = _paced_flags(slo_s) if self.version is None else _copied_flags(self.version, Path(scratch), slo_s)
            with running([*shlex.split(command), *flags, "--port", str(port)], port, ready_path="/v2/health/ready") as server:
                yield server


def subject(name: str, repository: Path, n_texts: int) -> Subject:
    """A model made ready. Raises BadInput for one that is not known, MissingData for one that is not published."""
    if name == PACED:
        return _paced()
    if name not in NAMES:
        raise BadInput(f"--models {name}: known are {', '.join(NAMES)}")
    return _real(name, repository, n_texts)


def _paced() -> Subject:
    peak = PACE.max_rows / PACE.batch_s(PACE.max_rows)
    rows = [{"x": np.full((1, 1), value, np.float32)} for value in range(64)]
    requests = [infer_request(HOST, PACED, row, binary=False) for row in rows]
    told = {
        "batch": PACE.max_rows,
        "offline": "by its law",
        "per_row_ms": PACE.per_row_s * 1e3,
        "per_batch_ms": PACE.per_batch_s * 1e3,
    }
    return Subject(PACED, None, requests, PACE.batch_s(PACE.max_rows), lambda _: peak, _LEAST_PACED, told)


def _real(name: str, repository: Path, n_texts: int) -> Subject:
    model, in_process = models.load(name, repository, n_texts)
    version = model.file.parent
    profile, length = cells(version), mean_length(model.lengths)
    best = in_process.sweep(_SWEEP_S).best
    binary = name in _BINARY
    told = {
        "batch": profile.max_rows, "mean_length": length, "offline": f"in process, {best}", "tensors": "binary" if binary else "JSON",
    }  # fmt: skip
    return Subject(
        name,
        version,
        [infer_request(HOST, name, row, binary=binary) for row in model.rows],
        profile.batch_s(profile.max_rows, length),
        lambda seconds: in_process.rate(best, seconds),
        _LEAST_REAL,
        told,
        _work(profile, model.lengths),
    )


def _work(profile: Cells, lengths: Sequence[int]) -> Sequence[float]:
    """Of requests of one row each, by their lengths."""
    if len(set(lengths)) < 2:
        return ()
    costs = [profile.row_s(length) for length in lengths]
    return [cost / float(np.mean(costs)) for cost in costs]


def _paced_flags(slo_s: float) -> list[str]:
    flags = {"slo-ms": slo_s * 1e3, "alpha-ms": PACE.per_row_s * 1e3, "beta-ms": PACE.per_batch_s * 1e3}
    return [*(f"--{name}={value:g}" for name, value in flags.items()), f"--max-rows={PACE.max_rows}"]


def _copied_flags(version: Path, scratch: Path, slo_s: float) -> list[str]:
    copy_of(version, scratch / "models", slo_s)
    return ["--repository", str(scratch / "models"), "--host", HOST]
