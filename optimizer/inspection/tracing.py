"""Runs a version with its operators timed, by whatever its library offers for that, and tells it as trace events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from optimizer.errors import OptimizeError
from optimizer.inspection.operators import KERNEL, NODE, RUN, Event, read_runs
from server.backends.base import Array, BatchError, LoadError, Picked
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.backends.openvino import NodeTime, OpenVinoBackend

N_WARM_UP = 3
"""Runs that are not counted: memory is laid out and kernels are made in the first."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Events of `n_runs` runs. A library that tells means only has them in one run, its nodes one after the other."""

    events: Sequence[Event]
    n_runs: int


def trace(picked: Picked, batch: Mapping[str, Array], threads: int, n_runs: int) -> Trace:
    """Raises OptimizeError when the version cannot be loaded or fails, or its backend has no such timing."""
    backend, folder = picked.backend, picked.files.folder
    try:
        if isinstance(backend, OnnxRuntimeBackend):
            return Trace(_by_profiler(backend, folder, batch, threads, n_runs), n_runs)
        if isinstance(backend, OpenVinoBackend):
            return Trace(_by_counters(backend, folder, batch, threads, n_runs), 1)
    except (LoadError, BatchError) as error:
        raise OptimizeError(f"{folder} cannot be profiled: {error}") from None
    raise OptimizeError(f"{folder} is served by {backend.name}, whose operators cannot be timed here")


def _by_profiler(
    backend: OnnxRuntimeBackend, folder: Path, batch: Mapping[str, Array], threads: int, n_runs: int
) -> list[Event]:
    """ONNX Runtime writes a file when its profiler ends."""
    with TemporaryDirectory() as scratch, closing(backend.load_traced(folder, threads, Path(scratch) / "trace")) as session:
        for _ in range(N_WARM_UP + n_runs):
            session.run(batch)
        return read_runs(session.end_trace(), n_runs)


def _by_counters(backend: OpenVinoBackend, folder: Path, batch: Mapping[str, Array], threads: int, n_runs: int) -> list[Event]:
    """OpenVINO counts each node's time from the first run on: what warming up took is taken off again."""
    with closing(backend.load_traced(folder, threads)) as session:
        for _ in range(N_WARM_UP):
            session.run(batch)
        before = {node.name: node.seconds for node in session.times()}
        for _ in range(n_runs):
            session.run(batch)
        return mean_run(session.times(), before, n_runs)


def mean_run(times: Sequence[NodeTime], before: Mapping[str, float], n_runs: int) -> list[Event]:
    """One run with each node's mean, end to end."""
    events: list[Event] = []
    at = 0.0
    for node in times:
        spent = max(0.0, node.seconds - before.get(node.name, 0.0)) / n_runs * 1e6
        arguments = {"op_name": node.operator, "provider": node.kernel}
        events.append(
            {
                "cat": NODE,
                "ph": "X",
                "pid": 1,
                "tid": 1,
                "ts": at,
                "dur": spent,
                "name": f"{node.name}{KERNEL}",
                "args": arguments,
            }
        )
        at += spent
    return [{"cat": "Session", "ph": "X", "pid": 1, "tid": 1, "ts": 0.0, "dur": at, "name": RUN, "args": {}}, *events]
