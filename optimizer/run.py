"""Runs the stages of a plan in order, reusing what the cache holds; stops at the first verdict against the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from optimizer.errors import StageFailed
from optimizer.lineage import Line
from optimizer.plan import SOURCE, Plan
from optimizer.stages.base import Result, Stage, verdict
from optimizer.store import Artifact, Store, stable_hash
from server.intake.measure import Progress
from server.intake.timer import now


@dataclass(frozen=True, slots=True)
class Done:
    """One stage behind us. `artifact` is None when it rejected the model; `log` is what a failing tool printed."""

    stage: Stage
    key: str
    inputs: Mapping[str, str]
    result: Result
    artifact: Artifact | None
    reused: bool = False
    log: str = ""

    def line(self) -> Line:
        """For the lineage; only for a stage that passed."""
        assert self.artifact is not None
        return Line(
            self.stage.name, self.key, self.stage.config, self.inputs, self.stage.tools,
            self.artifact.seconds, self.artifact.digest,
        )  # fmt: skip


class Display(Protocol):
    """Where progress is shown."""

    def begin(self, stage: str) -> None:
        """A stage starts."""

    def step(self, what: str, done: int, total: int) -> None:
        """A stage tells how far it is."""

    def end(self, done: Done) -> None:
        """A stage is behind us."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What became of a plan: all stages that ran, the last one perhaps rejecting."""

    done: Sequence[Done]
    rejection: Done | None = None
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)

    def result(self, stage: str) -> Result | None:
        """Result of a stage that ran, passed or not."""
        return next((done.result for done in self.done if done.stage.name == stage), None)


def execute(plan: Plan, store: Store, display: Display) -> Execution:
    """Raises SourceError for a wrong user file; a verdict against the model is a result, not an exception."""
    artifacts: dict[str, Artifact] = {}
    behind: list[Done] = []
    for stage in plan.stages:
        display.begin(stage.name)
        done = _run_stage(stage, plan.source_digest, artifacts, store, display.step)
        display.end(done)
        behind.append(done)
        if done.artifact is None:
            return Execution(behind, done, artifacts)
        artifacts[stage.name] = done.artifact
    return Execution(behind, None, artifacts)


def _run_stage(stage: Stage, source_digest: str, artifacts: Mapping[str, Artifact], store: Store, progress: Progress) -> Done:
    digests = {name: source_digest if name == SOURCE else artifacts[name].digest for name in stage.reads}
    key = stable_hash([stage.name, stage.config, stage.tools, digests])
    kept = store.find(key)
    if kept is not None:
        return Done(stage, key, digests, Result.read(kept.folder), kept, reused=True)
    folders = {name: artifacts[name].folder for name in stage.reads if name != SOURCE}
    with store.scratch() as scratch:
        out = scratch / "out"
        out.mkdir()
        began_at = now()
        result, log = _attempt(stage, folders, out, progress)
        if not result.passed:
            return Done(stage, key, digests, result, None, log=log)
        result.write(out)
        return Done(stage, key, digests, result, store.keep(key, out, now() - began_at))


def _attempt(stage: Stage, folders: Mapping[str, Path], out: Path, progress: Progress) -> tuple[Result, str]:
    try:
        return stage.run(folders, out, progress), ""
    except StageFailed as failure:
        return verdict(stage.name, False, str(failure)), failure.log
