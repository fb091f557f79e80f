"""`python -m tests.gpu.bench`: how close ferry comes to the limit of a card, as ratios; one JSON with the card and all versions.

`--rehearse` takes the same steps with tiny models on the processor, to see that they work: its figures say nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from loadtests import bench_slo
from loadtests.child import HOST
from loadtests.environment import environment, heading
from loadtests.errors import LoadTestError
from loadtests.lanes import Lane, measure
from loadtests.report import write_json
from loadtests.slo_subjects import Subject
from loadtests.verdicts import Side, Verdict, verdict_values
from loadtests.wire import infer_request
from server.backends import card_slots
from server.backends.base import Array, Backend, Session
from server.backends.catalog import find_backends
from server.backends.nvidia import find_cards
from server.backends.onnx_cuda import PROVIDER, preload
from server.contract.layout import PROFILE, read_json
from server.contract.profiles import Profiles
from server.contract.publish import publish, staging
from server.contract.wants import Wants
from server.intake.build import Intake, build_version
from server.intake.measure import Effort
from tests.gpu.shapes import encoder, residual
from tests.server.backends.host_card import HostCard, OnTheHost

PACKAGES = ("onnxruntime-gpu", "onnxruntime", "cuda-bindings", "nvidia-ml-py", "tensorrt", "numpy")
_CONNECTIONS = 512
_BUSY_EVERY_S = 0.05
_TIMEOUT_S = 120.0

Batch = Mapping[str, Array]


@dataclass(frozen=True)
class Shape:
    """A network to measure with. `row`: one request. `small`: rows of a batch that is over sooner than its copies."""

    name: str
    model: bytes
    row: Batch
    lengths: tuple[int, int] | None
    rows: int
    small: int = 4

    def batch(self, rows: int) -> Batch:
        return {name: np.repeat(array, rows, axis=0) for name, array in self.row.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 where there is no card, or a server could not be measured; the reason is printed."""
    parser = argparse.ArgumentParser("python -m tests.gpu.bench", description=__doc__)
    parser.add_argument("--backend", default="onnxruntime-cuda-tf32")
    parser.add_argument("--out", type=Path, default=Path("loadtests/results"))
    parser.add_argument("--seconds", type=float, default=4.0, help="for each rate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rehearse", action="store_true")
    args = parser.parse_args(arguments)
    found = find_backends()
    if not args.rehearse and args.backend not in found.usable:
        print(f"{args.backend}: {found.missing.get(args.backend, 'there is no such backend')}", file=sys.stderr)
        return 1
    try:
        print(f"written: {run(args)}")
    except LoadTestError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def run(args: argparse.Namespace) -> Path:
    """Measure everything, print the ratios, write the file."""
    session_of: Backend = OnTheHost(HostCard()) if args.rehearse else find_backends().usable[args.backend]
    served_by: Backend = find_backends().usable["onnxruntime" if args.rehearse else args.backend]
    shapes = _shapes(args.rehearse)
    content: dict[str, Any] = {
        "kind": "gpu", **heading("tests.gpu.bench", sys.argv[1:], {"backend": args.backend, "seconds": args.seconds}),
        "packages": environment(PACKAGES)["packages"],
        "cards": [{**asdict(card.accelerator), "memory_bytes": card.memory_bytes} for card in find_cards().found],
        "shapes": {},
    }  # fmt: skip
    told: list[Verdict] = []
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="gpu-bench-") as folder:
            figures, verdicts = _measure(shape, session_of, served_by, Path(folder), args)
        content["shapes"][shape.name] = figures
        told += verdicts
    content["verdicts"] = verdict_values(told)
    for one in told:
        print(f"{one.figure}: {one.told} ({one.side.value} {one.bound:g})")
    return write_json(args.out, "gpu-rehearsal" if args.rehearse else "gpu", content)


def _shapes(is_rehearsal: bool) -> list[Shape]:
    ids = np.random.default_rng(0).integers(0, 500, (1, 8 if is_rehearsal else 128))
    text = {"ids": ids, "mask": np.ones_like(ids)}
    side = 32 if is_rehearsal else 224
    image = {"image": np.random.default_rng(1).standard_normal((1, 3, side, side)).astype(np.float32)}
    length = ids.shape[1]
    if is_rehearsal:
        return [
            Shape("encoder", encoder(1, 32, 4, 500), text, (length, length), 4),
            Shape("residual", residual((1,), 8, side, 10), image, None, 4),
        ]
    return [
        Shape("encoder", encoder(), text, (length, length), 64),
        Shape("residual", residual(), image, None, 64),
        Shape("launch-bound", encoder(12, 128, 2, 500), text, (length, length), 64),
    ]


def _measure(
    shape: Shape, backend: Backend, served_by: Backend, folder: Path, args: argparse.Namespace
) -> tuple[dict[str, Any], list[Verdict]]:
    (folder / "model.onnx").write_bytes(shape.model)
    raw = raw_rate(folder / "model.onnx", shape.batch(shape.rows), args)
    with closing(backend.load(folder, 1)) as session:
        alone, both = (rate(session, shape.batch(shape.rows), n, args.seconds) for n in (1, 2))
        small_alone, small_both = (rate(session, shape.batch(shape.small), n, args.seconds) for n in (1, 2))
        with_graphs = median_s(session, shape.batch(1), args.seconds)
    with _without_graphs(), closing(backend.load(folder, 1)) as session:
        without_graphs = median_s(session, shape.batch(1), args.seconds)
    served = _served(shape, served_by, folder, both * shape.rows, args)
    figures = {
        "rows": shape.rows, "small": shape.small, "raw_batches_per_s": raw,
        "session_batches_per_s": {"one in flight": alone, "two in flight": both},
        "small_batches_per_s": {"one in flight": small_alone, "two in flight": small_both},
        "p50_ms_of_one_row": {"recorded": with_graphs * 1e3, "launched": without_graphs * 1e3}, **served,
    }  # fmt: skip
    name, busy = shape.name, served["busy"]
    told = [
        Verdict(f"{name}: served over HTTP / raw engine loop", served["per_s"] / (raw * shape.rows), Side.AT_LEAST, 0.90),
        Verdict(f"{name}: host inputs with overlap / device-resident", both / raw, Side.AT_LEAST, 0.95),
        Verdict(f"{name}: overlapped / synchronous, small batches", small_both / small_alone, Side.AT_LEAST, 1.2),
        Verdict(f"{name}: device busy at saturation", busy, Side.AT_LEAST, 0.95),
        *served.pop("verdicts"),
    ]
    if name == "launch-bound":
        told.append(Verdict(f"{name}: recorded / launched, p50 of one row", with_graphs / without_graphs, Side.AT_MOST, 0.6))
    return figures, told


def rate(session: Session, batch: Batch, n_threads: int, seconds: float) -> float:
    """Batches per second with so many callers."""
    for _ in range(2 * card_slots.N_SEEN * n_threads):
        session.run(batch)
    counts = [0] * n_threads
    until = time.perf_counter() + seconds

    def call(place: int) -> None:
        while time.perf_counter() < until:
            session.run(batch)
            counts[place] += 1

    threads = [threading.Thread(target=call, args=(place,)) for place in range(n_threads)]
    began_at = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began_at)


def median_s(session: Session, batch: Batch, seconds: float) -> float:
    """Of one call at a time."""
    for _ in range(2 * card_slots.N_SEEN):
        session.run(batch)
    times = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began_at = time.perf_counter()
        session.run(batch)
        times.append(time.perf_counter() - began_at)
    return statistics.median(times)


def raw_rate(model: Path, batch: Batch, args: argparse.Namespace) -> float:
    """Batches per second of the bare library in a loop, inputs and outputs on the card, recorded as a graph where that can be."""
    kind = "cpu" if args.rehearse else "cuda"
    if not args.rehearse:
        preload()
    options = {"use_tf32": "1" if args.backend.endswith("tf32") else "0"}
    session = None
    for more in ({"enable_cuda_graph": "1"}, {}):
        providers: list[Any] = (
            ["CPUExecutionProvider"] if args.rehearse else [(PROVIDER, options | more), "CPUExecutionProvider"]
        )
        try:
            session = ort.InferenceSession(model, providers=providers)
            break
        except Exception as error:  # the library raises what it likes where a graph cannot be recorded
            print(f"raw loop: {error}")
    assert session is not None, "it loads without graphs"
    if not args.rehearse and PROVIDER not in session.get_providers():
        raise LoadTestError("the bare library could not begin to use the card: there is nothing to compare with")
    binding = session.io_binding()
    for name, array in batch.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, kind, 0))
    rows = len(next(iter(batch.values())))
    for output in session.get_outputs():
        value = ort.OrtValue.ortvalue_from_shape_and_type([rows, *output.shape[1:]], np.float32, kind, 0)
        binding.bind_ortvalue_output(output.name, value)
    for _ in range(3):
        session.run_with_iobinding(binding)
    n, began_at = 0, time.perf_counter()
    while time.perf_counter() < began_at + args.seconds:
        session.run_with_iobinding(binding)
        n += 1
    return n / (time.perf_counter() - began_at)


@contextmanager
def _without_graphs() -> Iterator[None]:
    """No shape is kept, hence none is recorded."""
    kept, card_slots.MAX_KEPT = card_slots.MAX_KEPT, 0
    try:
        yield
    finally:
        card_slots.MAX_KEPT = kept


def _served(shape: Shape, backend: Backend, folder: Path, offline: float, args: argparse.Namespace) -> dict[str, Any]:
    """The version published, and what a server makes of it: saturated, and under an objective of three full batches."""
    repository = folder / "repository"
    repository.mkdir()
    with staging(repository) as scratch:
        version = scratch / "version"
        version.mkdir()
        (version / "model.onnx").write_bytes(shape.model)
        effort = Effort(cell_s=0.01, n_least=1, n_most=5) if args.rehearse else Effort()
        intake = Intake(shape.name, [shape.row], lengths=shape.lengths, max_rows=shape.rows, effort=effort)
        build_version(version, backend, intake, lambda *_: None)
        number = publish(version, repository, shape.name, Wants(1.0))
    published = repository / shape.name / str(number)
    profiles = Profiles.from_json(read_json(published / PROFILE, PROFILE), PROFILE)
    batch_s = profiles.profiles[0].predict(shape.rows, shape.lengths[1] if shape.lengths else 0)
    requests = [infer_request(HOST, shape.name, shape.row, binary=True)]
    subject = Subject(shape.name, published, requests, batch_s, lambda _: offline, 0.90, {"batch": shape.rows})
    command = f"{sys.executable} -m server.cli serve --metrics-port 0"
    with subject.served(command, _TIMEOUT_S) as server:
        lane = Lane("binary", server, requests, _CONNECTIONS)
        measure(lane, args.seconds / 4)
        with _busy(not args.rehearse) as busy:
            sample = measure(lane, args.seconds)
    options = bench_slo.Options(
        repository,
        args.out,
        command,
        "",
        shape.name,
        args.rounds,
        args.seconds / 2,
        args.seconds,
        args.seconds,
        args.seconds,
        0,
    )
    under_slo = bench_slo.measured(options, subject)
    return {
        "per_s": sample.per_s, "busy": busy(), "saturated": asdict(sample), "under_slo": bench_slo.content_of(under_slo),
        "verdicts": bench_slo.verdicts(under_slo),
    }  # fmt: skip


@contextmanager
def _busy(has_card: bool) -> Iterator[Callable[[], float | None]]:
    """Share of the time in which the first card calculated; None without one."""
    shares: list[float] = []
    if not has_card:
        yield lambda: None
        return
    import pynvml

    pynvml.nvmlInit()
    card, done = pynvml.nvmlDeviceGetHandleByIndex(0), threading.Event()

    def watch() -> None:
        while not done.wait(_BUSY_EVERY_S):
            shares.append(pynvml.nvmlDeviceGetUtilizationRates(card).gpu / 100)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: statistics.mean(shares) if shares else None
    finally:
        done.set()
        thread.join()
        pynvml.nvmlShutdown()


if __name__ == "__main__":
    sys.exit(main())
