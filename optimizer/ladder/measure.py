"""The last judgement of a candidate, in its own process: the server's intake, with the full latency profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from optimizer.ladder.opening import served_files
from optimizer.ladder.subject import Subject
from optimizer.stages.base import Result
from optimizer.stages.intake import take_in
from server.backends.base import Backend
from server.contract.layout import MANIFEST, PROFILE, read_json
from server.contract.manifest import Manifest
from server.contract.profiles import Profiles
from server.intake.checks import by_cosine
from server.intake.measure import Progress


@dataclass(frozen=True, slots=True)
class MeasureTask:
    """Writes manifest.json and profile.json. `row_cosine`: how closely a row must agree with itself in another batch."""

    subject: Subject
    model: Path
    backend: Backend
    row_cosine: float
    engine: Path | None = None

    def __call__(self, out: Path, progress: Progress) -> Result:
        """Raises StageFailed when rows influence each other, or a batch fails."""
        subject = self.subject
        request = replace(subject.intake(), differs=by_cosine(self.row_cosine))
        files = served_files(self.backend, self.model, self.engine)
        return take_in(files, subject.built, subject.folder, out, progress, self.backend, request)


@dataclass(frozen=True, slots=True)
class Measured:
    """What intake wrote for one file on one backend, in `folder`."""

    folder: Path
    manifest: Manifest
    profiles: Profiles


def read_measured(folder: Path) -> Measured:
    """Of MeasureTask, or of the intake stage."""
    manifest = Manifest.from_json(read_json(folder / MANIFEST, str(folder)), str(folder))
    return Measured(folder, manifest, Profiles.from_json(read_json(folder / PROFILE, str(folder)), str(folder)))
