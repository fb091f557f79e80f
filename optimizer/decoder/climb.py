"""Makes and judges the candidates of a decoder, each in processes of its own, and ends in a decision. Publishes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from optimizer.decoder import export, quantize, reference
from optimizer.decoder.checkpoint import Checkpoint
from optimizer.decoder.decide import Decision, decide
from optimizer.decoder.export import ExportTask
from optimizer.decoder.judge import JudgeTask
from optimizer.decoder.likeness import Likeness
from optimizer.decoder.loading import load
from optimizer.decoder.quantize import QuantizeTask
from optimizer.decoder.reference import ReferenceTask
from optimizer.decoder.rewrite import DATA, MODEL
from optimizer.decoder.trial import PLAIN, Candidate, Trial, judge_answers, judge_company
from optimizer.decoder.wish import Wish
from optimizer.env import tool_versions
from optimizer.errors import OptimizeError, StageFailed
from optimizer.ladder.gates import Failed, Gate
from optimizer.ladder.isolate import Ended, Task
from optimizer.ladder.workshop import Order, Piece, Workshop
from optimizer.lineage import Line
from optimizer.stages.base import Result
from optimizer.store import Store
from server.backends.base import BatchError
from server.backends.decoding import DecoderBackend
from server.contract.device import Device, this_device
from server.contract.generation import Generation
from server.contract.layout import read_json, write_json
from server.contract.profile import Placement
from server.contract.step_profile import StepProfile
from server.intake.measure import Effort, Progress
from server.intake.steps import measure_in_turns

_EXPORT, _REFERENCE = "export", "reference"


class Watcher(Protocol):
    """Where progress is shown."""

    def begin(self, stage: str) -> None:
        """Work on something starts."""

    def step(self, what: str, done: int, total: int) -> None:
        """How far it is."""

    def told(self, name: str, passed: bool, note: str) -> None:
        """It is done with."""


@dataclass(frozen=True, slots=True)
class Climbed:
    """All trials, the plain export first, those that lost with their reason. `decision` None: the plain export itself failed."""

    trials: Sequence[Trial]
    decision: Decision | None
    reference: str

    @property
    def winner(self) -> Trial:
        """The one to publish; only where there is a decision."""
        assert self.decision is not None, "the caller has looked"
        return next(trial for trial in self.trials if trial.name == self.decision.winner)


def climb(checkpoint: Checkpoint, wish: Wish, gap_s: float, backend: DecoderBackend, store: Store, watcher: Watcher) -> Climbed:
    """Raises OptimizeError when a tool is missing, or the text cannot be used."""
    return _Climb(checkpoint, wish, gap_s, backend, store, watcher).run()


class _Climb:
    def __init__(
        self, checkpoint: Checkpoint, wish: Wish, gap_s: float, backend: DecoderBackend, store: Store, watcher: Watcher
    ) -> None:
        self._checkpoint, self._wish, self._gap_s, self._backend, self._watcher = checkpoint, wish, gap_s, backend, watcher
        self._workshop = Workshop(store, wish.limits, watcher.step)
        self._device = this_device(backend.runtime)
        self._digest = checkpoint.digest
        self._reference: Piece | None = None

    def run(self) -> Climbed:
        plain = self._watched(PLAIN, self._plain)
        if plain.failed is not None:
            return Climbed([plain], None, self._said())
        trials = [plain, *(self._watched(one, lambda one: self._smaller(one, plain)) for one in self._wish.candidates)]
        self._watcher.begin("steps")
        trials = self._measure(trials)
        if trials[0].failed is not None:
            return Climbed(trials, None, self._said())
        decision = decide([trial for trial in trials if trial.failed is None], self._gap_s)
        lost = decision.lost
        return Climbed(
            [replace(one, failed=lost[one.name]) if one.name in lost else one for one in trials], decision, self._said()
        )

    def _said(self) -> str:
        return "" if self._reference is None else self._reference.result.note

    def _watched(self, candidate: Candidate, try_it: Callable[[Candidate], Trial]) -> Trial:
        self._watcher.begin(candidate.name)
        trial = try_it(candidate)
        note = trial.failed.reason if trial.failed else f"{trial.note}; {trial.likeness.sentence() if trial.likeness else ''}"
        self._watcher.told(candidate.name, trial.failed is None, note)
        return trial

    def _plain(self, candidate: Candidate) -> Trial:
        task = ExportTask(self._checkpoint.folder, self._checkpoint.generation.kept)
        order = self._order(_EXPORT, {"kept": str(task.kept)}, export.DISTRIBUTIONS, {"source": self._digest}, task)
        return self._made(candidate, order, ())

    def _smaller(self, candidate: Candidate, plain: Trial) -> Trial:
        assert plain.folder is not None, "it passed"
        assert candidate.bits is not None, "only the plain export has none"
        task = QuantizeTask(plain.folder, candidate.bits)
        config = {"bits": task.bits, "block": quantize.BLOCKS[task.bits]}
        order = self._order(candidate.name, config, quantize.DISTRIBUTIONS, {_EXPORT: plain.lines[0].output}, task)
        return self._made(candidate, order, plain.lines[:1])

    def _made(self, candidate: Candidate, order: Order, before: Sequence[Line]) -> Trial:
        try:
            piece = self._workshop.do(order)
        except Ended as ended:
            return Trial(candidate, Failed(Gate.STEPS, str(ended), ended.log), lines=before)
        trial = Trial(
            candidate,
            folder=piece.folder,
            n_bytes=piece.result.data["bytes"],
            note=piece.result.note,
            lines=(*before, piece.line),
        )
        return self._judged(trial, piece)

    def _judged(self, trial: Trial, piece: Piece) -> Trial:
        try:
            original = self._original(trial)
            task = JudgeTask(piece.folder, original.folder, self._backend, self._checkpoint.generation, self._device.cores)
            inputs = {trial.lines[-1].stage: piece.line.output, _REFERENCE: original.line.output}
            judged = self._workshop.do(self._order(f"judge {trial.name}", self._serving(), (), inputs, task))
        except Ended as ended:
            return replace(trial, failed=Failed(Gate.LOADS, str(ended), ended.log))
        data = judged.result.data
        likeness = Likeness.from_json(data["likeness"])
        failed = judge_answers(trial.candidate, likeness, self._wish.gates)
        if trial.candidate.bits is not None:
            failed = failed or judge_company(data["company"])
        return replace(
            trial, failed=failed, likeness=likeness, company=data["company"], memory_bytes=data["memory_bytes"],
            lines=(*trial.lines, original.line, judged.line),
        )  # fmt: skip

    def _original(self, plain: Trial) -> Piece:
        """What the original says; `plain`: the export in float32, which is the first that is judged."""
        if self._reference is None:
            assert plain.folder is not None, "it was made"
            task = ReferenceTask(self._checkpoint, self._wish.text, plain.folder, self._backend, self._device.cores)
            config = {
                "text": self._wish.config()["text"],
                "size": list(task.size()),
                "longest": self._checkpoint.generation.longest,
            }
            inputs = {"source": self._digest, _EXPORT: plain.lines[0].output}
            order = self._order(_REFERENCE, config, reference.DISTRIBUTIONS, inputs, task)
            try:
                self._reference = self._workshop.do(order)
            except Ended as ended:
                raise OptimizeError(f"nothing to compare with: {ended}") from None
        return self._reference

    def _measure(self, trials: Sequence[Trial]) -> list[Trial]:
        """All that passed, in turns and in one process: what disturbs the machine disturbs all of them."""
        passed = [trial for trial in trials if trial.failed is None]
        folders = {trial.name: trial.folder for trial in passed if trial.folder is not None}
        slots = self._slots(len(passed))
        task = MeasureTask(folders, self._backend, self._checkpoint.generation, self._device, slots, self._wish.effort)
        config = {**self._serving(), "slots": slots, "effort": asdict(self._wish.effort)}
        inputs = {trial.name: _made_line(trial).output for trial in passed}
        try:
            piece = self._workshop.do(self._order("steps", config, ("numpy",), inputs, task))
        except Ended as ended:
            failed = Failed(Gate.PROFILE, f"the steps could not be measured: {ended}", ended.log)
            self._watcher.told("steps", False, failed.reason)
            return [replace(trial, failed=trial.failed or failed) for trial in trials]
        self._watcher.told("steps", True, piece.result.note)
        return [self._with_steps(trial, piece) if trial in passed else trial for trial in trials]

    def _with_steps(self, trial: Trial, piece: Piece) -> Trial:
        file = f"{trial.name}.json"
        return replace(
            trial, steps=StepProfile.from_json(read_json(piece.folder / file, file), file), lines=(*trial.lines, piece.line)
        )

    def _slots(self, n_decoders: int) -> int:
        """As many as are wished, as far as half of the memory goes."""
        generation = self._checkpoint.generation
        kept = generation.kept
        n_bytes = 2 * kept.layers * kept.heads * kept.head_size * 4 * generation.longest * n_decoders
        return max(1, min(self._wish.slots, self._wish.limits.memory_bytes // 2 // n_bytes))

    def _serving(self) -> dict[str, Any]:
        """What decides how it is served."""
        generation = self._checkpoint.generation.to_json()
        return {"device": asdict(self._device), "generation": generation, "backend": self._backend.name}

    def _order(
        self, what: str, config: Mapping[str, Any], distributions: Sequence[str], inputs: Mapping[str, str], task: Task
    ) -> Order:
        return Order(what, config, tool_versions(distributions), inputs, task)


def _made_line(trial: Trial) -> Line:
    """Of what made its graph."""
    return next(line for line in reversed(trial.lines) if line.stage in (_EXPORT, trial.name))


@dataclass(frozen=True, slots=True)
class MeasureTask:
    """`folders`: decoders by name, one placement for all: a thread for each core."""

    folders: Mapping[str, Path]
    backend: DecoderBackend
    generation: Generation
    device: Device
    slots: int
    effort: Effort

    def __call__(self, out: Path, progress: Progress) -> Result:
        """Writes a step profile for each, by its name. Raises StageFailed when one does not load or fails."""
        placement = Placement(1, self.device.cores)
        with ExitStack() as opened:
            decoders = [
                opened.enter_context(closing(load(self.backend, folder, self.generation, self.slots, placement.threads)))
                for folder in self.folders.values()
            ]
            try:
                profiles = measure_in_turns(decoders, placement, self.device, self.generation.longest, progress, self.effort)
            except BatchError as error:
                raise StageFailed(f"fails while it is timed: {error}") from None
        for name, profile in zip(self.folders, profiles, strict=True):
            write_json(out / f"{name}.json", profile.to_json())
        single = ", ".join(
            f"{name} {profile.decode[0].p50_s * 1e3:.2g} ms" for name, profile in zip(self.folders, profiles, strict=True)
        )
        return Result(f"a token of a single row: {single}")


MODEL_FILES = (MODEL, DATA)
"""What of a candidate's folder is published."""
