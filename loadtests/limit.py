"""The in-process limit: the best rate raw onnxruntime reaches on a published model file, without any server.

Best over batch sizes and over two ways to use N threads; rows of different lengths are sorted before they are batched.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import onnxruntime as ort

from loadtests.errors import MissingData
from loadtests.tensors import Array

Row = Mapping[str, Array]
"""One request's inputs: name → array [1, …]."""

FIXED_SIZES = (1, 2, 4, 8, 16, 32, 64)
MIXED_SIZES = (1, 2, 4, 8, 16, 32)
_CONTENDS = 0.9
_MOST_CONTENDERS = 3


class Placement(Enum):
    """How N threads are used; `value` is for people."""

    WIDE = "1 caller x N threads"
    SHARED = "N callers x 1 thread"


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run the model: where the threads are, and how many rows are in a batch."""

    placement: Placement
    rows: int

    def __str__(self) -> str:
        return f"{self.placement.value}, batches of {self.rows}"


@dataclass(frozen=True, slots=True)
class Sweep:
    """Rows per second of every setting that was tried."""

    rows_per_s: Mapping[Setting, float]

    @property
    def best(self) -> Setting:
        return max(self.rows_per_s, key=self.rows_per_s.__getitem__)

    @property
    def contenders(self) -> list[Setting]:
        """The best few, best first: which of them is the best at another time, one look does not tell."""
        ranked = sorted(self.rows_per_s, key=self.rows_per_s.__getitem__, reverse=True)
        least = _CONTENDS * self.rows_per_s[ranked[0]]
        return [one for one in ranked[:_MOST_CONTENDERS] if self.rows_per_s[one] >= least]


def model_file(repository: Path, model: str, version: str | None = None) -> Path:
    """`<repository>/<model>/<version>/model.onnx`, of the highest version by default. Raises MissingData."""
    folder = repository / model
    files = [file for file in folder.glob("*/model.onnx") if file.parent.name.isdigit()]
    if version is not None:
        files = [file for file in files if file.parent.name == version]
    if not files:
        raise MissingData(f"no {folder / (version or '<version>') / 'model.onnx'}: publish the model first")
    return max(files, key=lambda file: int(file.parent.name))


class InProcess:
    """A model file, rows to run through it, and the sessions to do so."""

    def __init__(self, file: Path, rows: Sequence[Row], n_threads: int | None = None) -> None:
        """`n_threads` defaults to the cores this process may use. Raises MissingData if the model refuses the rows."""
        if not rows:
            raise MissingData(f"no rows to run {file} with")
        self.rows = rows
        self._n_threads = n_threads or len(os.sched_getaffinity(0))
        try:
            self._sessions = {n: _session(file, n) for n in {1, self._n_threads}}
            self.outputs(rows[0])
        except Exception as error:  # onnxruntime's errors share no other base
            raise MissingData(f"onnxruntime cannot run {file}: {error}") from error

    @property
    def mixed(self) -> bool:
        """Whether the rows differ in length, so that batches of them are padded."""
        return len({_lengths(row) for row in self.rows}) > 1

    def settings(self) -> list[Setting]:
        """Every setting that makes sense for this model: a model with a fixed batch axis is run at that size only."""
        first = self._sessions[1].get_inputs()[0].shape[0]
        sizes = (first,) if isinstance(first, int) else MIXED_SIZES if self.mixed else FIXED_SIZES
        placements = Placement if self._n_threads > 1 else (Placement.WIDE,)
        return [Setting(placement, size) for placement in placements for size in sizes]

    def sweep(self, budget_s: float) -> Sweep:
        """The rate of every setting, each measured for about `budget_s` seconds."""
        return Sweep({setting: self.rate(setting, budget_s) for setting in self.settings()})

    def rate(self, setting: Setting, budget_s: float) -> float:
        """Rows per second; rows of mixed lengths are run in whole passes, at least one, whatever `budget_s` says."""
        session, n_callers = self._use(setting.placement)
        batches = self._batches(setting.rows)
        session.run(None, batches[0])
        with ThreadPoolExecutor(n_callers) as callers:
            if self.mixed:
                return len(self.rows) * _passes_per_s(callers, session, batches, budget_s)
            return setting.rows * _runs_per_s(callers, n_callers, session, batches, budget_s)

    def outputs(self, row: Row) -> dict[str, Array]:
        """The outputs of one row by name, each [1, …]."""
        session = self._sessions[1]
        names = [one.name for one in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(row)), strict=True))

    def _use(self, placement: Placement) -> tuple[ort.InferenceSession, int]:
        if placement is Placement.WIDE:
            return self._sessions[self._n_threads], 1
        return self._sessions[1], self._n_threads

    def _batches(self, size: int) -> list[dict[str, Array]]:
        if self.mixed:
            rows = sorted(self.rows, key=_lengths, reverse=True)  # longest first: no long batch is left for the end
        else:
            rows = list(itertools.islice(itertools.cycle(self.rows), max(size, len(self.rows) // size * size)))
        return [padded(rows[at : at + size]) for at in range(0, len(rows), size)]


def padded(rows: Sequence[Row]) -> dict[str, Array]:
    """Rows as one batch: each input [n, …], filled up with zeros to the longest row along every axis."""
    return {name: _stack([row[name] for row in rows]) for name in rows[0]}


def _stack(arrays: Sequence[Array]) -> Array:
    shape = np.max([array.shape for array in arrays], axis=0)
    batch = np.zeros((len(arrays), *shape[1:]), arrays[0].dtype)
    for line, array in zip(batch, arrays, strict=True):
        line[tuple(slice(size) for size in array.shape[1:])] = array[0]
    return batch


def _lengths(row: Row) -> tuple[int, ...]:
    return tuple(size for array in row.values() for size in array.shape[1:])


def _session(file: Path, n_threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", "20")  # the best that is known: see decision 27
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _passes_per_s(
    callers: ThreadPoolExecutor, session: ort.InferenceSession, batches: Sequence[dict[str, Array]], budget_s: float
) -> float:
    started_at, n_passes, spent_s = time.perf_counter(), 0, 0.0
    while spent_s < budget_s:
        list(callers.map(lambda batch: session.run(None, batch), batches))
        n_passes += 1
        spent_s = time.perf_counter() - started_at
    return n_passes / spent_s


def _runs_per_s(
    callers: ThreadPoolExecutor,
    n_callers: int,
    session: ort.InferenceSession,
    batches: Sequence[dict[str, Array]],
    budget_s: float,
) -> float:
    started_at = time.perf_counter()
    stop_at = started_at + budget_s

    def call(first: int) -> int:
        n_runs = 0
        while n_runs == 0 or time.perf_counter() < stop_at:
            session.run(None, batches[(first + n_runs) % len(batches)])
            n_runs += 1
        return n_runs

    n_runs = sum(callers.map(call, range(n_callers)))
    return n_runs / (time.perf_counter() - started_at)
