"""What a peer is: what to install, how to start it for one model, what it is asked in which words. Nothing is run here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from loadtests.child import HOST
from loadtests.peers.servers.setup import VARIABLE
from loadtests.peers.wires import V2, PlainJson, Wire
from loadtests.tensors import Array

SERVERS = "loadtests.peers.servers"
ROOT = Path(__file__).resolve().parents[2]
"""What the peers' interpreters need on their path to import `SERVERS`."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a model is run: requests joined at most (1: batching is off), how long a batch waits, processes, threads of each run.

    `workers` 0: the model runs in the process that also speaks HTTP, for a server that can have it either way. `threads` 0 leaves them to
    onnxruntime. `queue` is how many requests may wait, `timeout_ms` for how long: 0 leaves either as the server comes.
    """

    max_batch: int = 1
    wait_ms: float = 0.0
    workers: int = 1
    threads: int = 1
    queue: int = 0
    timeout_ms: float = 0.0

    def __str__(self) -> str:
        batching = f"batches of {self.max_batch}, {self.wait_ms:g} ms wait" if self.max_batch > 1 else "no batching"
        bounds = [f"queue of {self.queue}"] if self.queue else []
        bounds += [f"timeout {self.timeout_ms:g} ms"] if self.timeout_ms else []
        workers = f"{self.workers} x" if self.workers else "no worker process,"
        return ", ".join([batching, f"{workers} {self.threads or 'default'} threads", *bounds])


class Knob(Enum):
    """What of a `Tuning` a hand may turn; `value` is for people."""

    QUEUE = "bound of the queue"
    TIMEOUT = "timeout"
    BATCH = "batch"
    WAIT = "wait for a batch"
    WORKERS = "workers"


@dataclass(frozen=True, slots=True)
class Model:
    """One model under test: a published file, and requests (of one row or more) with the answers that the file gives in process."""

    name: str
    file: Path
    rows: Sequence[Mapping[str, Array]]
    outputs: tuple[str, ...]
    expected: Sequence[Mapping[str, Array]]

    @property
    def n_rows(self) -> int:
        """Rows in each request."""
        return len(next(iter(self.rows[0].values())))

    @property
    def lengths(self) -> list[int]:
        """How long each row is, in tokens; empty for a model whose rows are all alike."""
        first = next(iter(self.rows[0]))
        shapes = [row[first].shape[1:] for row in self.rows]
        return [max(shape) for shape in shapes] if len(set(shapes)) > 1 else []


@dataclass(frozen=True, slots=True)
class Visit:
    """One start of a peer: what it serves, how, where, and an empty folder for whatever it writes.

    `slo_s` is the objective of the load to come, for a server that takes one; None leaves it the published one.
    """

    model: Model
    tuning: Tuning
    port: int
    folder: Path
    python: Path
    slo_s: float | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """A command, what it needs in its environment, and a path that answers 200 once it listens.

    `shared_memory` is how the names of its shared memory begin, if it may leave some when it is stopped under load.
    """

    command: list[str]
    ready_path: str
    environment: Mapping[str, str]
    shared_memory: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to compare with. `requirements` empty: it runs in this environment. `settings` is for people.

    `candidates` are the ways to run each model that are tried before the rounds; the fastest is measured. `knobs` are those that this server has
    for the overload, in the order in which they are swept. `waits_ms` are the waits for a batch that it can really be told; every candidate
    has one of them, also where nothing is joined, since the sweep may turn batches on and leave the wait.
    """

    name: str
    label: str
    package: str
    requirements: tuple[str, ...]
    candidates: Mapping[str, Sequence[Tuning]]
    settings: str
    launch: Callable[[Visit], Launch]
    wire: Callable[[Model], Wire]
    binary: Callable[[Model], Wire] | None = None
    knobs: Sequence[Knob] = ()
    waits_ms: Sequence[float] = (0.0, 1.0, 2.0, 5.0)


def plain_json(path: str) -> Callable[[Model], Wire]:
    """The wire of a server with JSON of its own at `path`."""
    return lambda model: PlainJson(path, model.outputs)


def v2(model: Model) -> Wire:
    """The wire of a V2 server, tensors as JSON."""
    return V2(model.name)


def v2_binary(model: Model) -> Wire:
    """The wire of a V2 server, tensors as bytes."""
    return V2(model.name, binary=True)


def environment(visit: Visit, **more: str) -> dict[str, str]:
    """What the server scripts read, on top of what the process has anyway; scratch files go to the visit's folder."""
    setup = {
        "file": str(visit.model.file.resolve()),
        "host": HOST,
        "port": visit.port,
        **asdict(visit.tuning),
        "n_rows": visit.model.n_rows,
    }
    return {VARIABLE: json.dumps(setup), "PYTHONPATH": str(ROOT), "TMPDIR": str(visit.folder), **more}


def described(peer: Peer) -> dict[str, Any]:
    """A peer as values for JSON."""
    return {
        "label": peer.label,
        "requirements": list(peer.requirements),
        "settings": peer.settings,
        "knobs": [knob.value for knob in peer.knobs],
    }
