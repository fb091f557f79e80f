"""What all candidates are candidates for: the plain export, what is known of the original, and real inputs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from optimizer.errors import StageFailed
from optimizer.options import Options
from optimizer.stages.base import Result
from optimizer.stages.files import SAMPLES, read_arrays, write_arrays
from optimizer.stages.intake import intake_of
from optimizer.transforms.base import Material
from optimizer.transforms.facts import GraphFacts, read_facts
from server.backends.base import Array, Backend, LoadError, Session
from server.contract.manifest import Ragged
from server.intake.build import Intake, prepare
from server.intake.errors import IntakeError
from server.intake.inspect import Signature, read_signature
from server.intake.measure import Progress
from server.intake.samples import Samples

N_SAMPLES = 256
"""More do not make a calibration better, nor an agreement surer, for what they cost."""


@dataclass(frozen=True, slots=True)
class Subject:
    """`folder` holds the plain export, and `sha256` is its digest; `plain`: the backend that it was checked with. `built`: the build
    stage's folder, and `source` the user's Python file; None for a finished .onnx file. `identity`: digest of both, for keys, and
    `packages` those that the file imports, because a score may depend on them."""

    name: str
    folder: Path
    sha256: str
    plain: Backend
    built: Path | None
    source: Path | None
    identity: str
    packages: frozenset[str]
    options: Options

    @property
    def model(self) -> Path:
        """The plain export's file."""
        return self.folder / self.plain.model_file

    @property
    def score(self) -> float | None:
        """What PyTorch scored; None where there is no score function."""
        found: float | None = None if self.built is None else Result.read(self.built).data["score"]
        return found

    @property
    def embedding(self) -> str | None:
        """The output that somebody named as the embedding."""
        if self.built is None:
            return self.options.embedding
        found: str | None = Result.read(self.built).data["settings"]["embedding"]
        return found

    def intake(self) -> Intake:
        """What is known about the model besides its file."""
        return intake_of(self.name, self.built, self.folder, self.options)


@dataclass(frozen=True, slots=True)
class Known:
    """A subject's tensors, inputs of any size, free axis and largest batch."""

    signature: Signature
    samples: Samples
    ragged: Ragged | None
    max_rows: int

    def length_of(self, inputs: Mapping[str, Array]) -> int:
        """The size that a batch has of the free axis; 0 without one."""
        axis = self.signature.ragged_axis
        places = ((spec.name, None if axis is None else spec.axis(axis)) for spec in self.signature.inputs)
        return next((inputs[name].shape[place] for name, place in places if place is not None), 0)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Shortest, middle and longest; (0,) without a ragged axis."""
        ragged = self.ragged
        return (0,) if ragged is None else (ragged.shortest, (ragged.shortest + ragged.longest) // 2, ragged.longest)


def load(backend: Backend, folder: Path, threads: int = 1) -> Session:
    """Raises StageFailed with the runtime's reason."""
    try:
        return backend.load(folder, threads)
    except LoadError as error:
        raise StageFailed(f"{backend.runtime} cannot load the model: {error}") from None


def know(subject: Subject, session: Session) -> Known:
    """From a session of the plain export. Raises StageFailed when the samples do not fit it."""
    request = subject.intake()
    try:
        signature = read_signature(session.inputs, session.outputs)
        samples, ragged = prepare(signature, request)
    except IntakeError as error:
        raise StageFailed(str(error)) from None
    return Known(signature, samples, ragged, request.max_rows if signature.batches else 1)


@dataclass(frozen=True, slots=True)
class MaterialTask:
    """Writes what transforms may use besides the model file, and what is known of its graph."""

    subject: Subject

    def __call__(self, out: Path, progress: Progress) -> Result:
        progress("reading the plain export", 0, 1)
        with closing(load(self.subject.plain, self.subject.folder)) as session:
            known = know(self.subject, session)
        singles = known.samples.singles[:N_SAMPLES]
        write_arrays(out / SAMPLES, {str(number): single for number, single in enumerate(singles)})
        ragged = known.ragged
        progress("reading its graph", 0, 1)
        facts = asdict(read_facts(self.subject.model)) if find_spec("onnx") is not None else None
        data: dict[str, Any] = {
            "facts": facts,
            "pads": dict(ragged.pads) if ragged else {},
            "ragged_axis": ragged.axis if ragged else None,
        }
        kind = "samples" if self.subject.built else "made-up inputs"
        return Result(f"{len(singles)} {kind} to calibrate and compare with", None, data)


def read_facts_of(result: Result) -> GraphFacts | None:
    """What MaterialTask found of the graph; None where onnx is not installed."""
    facts = result.data["facts"]
    return None if facts is None else GraphFacts(**{**facts, "dtypes": tuple(facts["dtypes"])})


def read_material(folder: Path) -> Material:
    """What MaterialTask wrote."""
    data: Mapping[str, Any] = Result.read(folder).data
    groups = read_arrays(folder / SAMPLES)
    return Material([groups[key] for key in sorted(groups, key=int)], data["pads"], data["ragged_axis"])
