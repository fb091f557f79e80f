"""Takes one candidate through its gates, each in a process of its own; a failure of any kind becomes the candidate's verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from optimizer.env import distributions_of, tool_versions
from optimizer.ladder.candidate import OWN, Candidate, Step
from optimizer.ladder.duel import N_ROUNDS, Duel, DuelTask, Rival, Size, duel_sizes, paces, speeds
from optimizer.ladder.engine import EngineTask, built_for_of
from optimizer.ladder.examine import Examined, ExamineTask, WeighTask
from optimizer.ladder.families import meter_of
from optimizer.ladder.gates import Failed, Gate, Gates
from optimizer.ladder.here import Here
from optimizer.ladder.isolate import Ended
from optimizer.ladder.measure import Measured, MeasureTask, read_measured
from optimizer.ladder.steps import missing
from optimizer.ladder.subject import MaterialTask, Subject, read_facts_of
from optimizer.ladder.transforming import MODEL, TransformTask
from optimizer.ladder.trial import Compiled, Graph, Trial
from optimizer.ladder.workshop import Order, Piece, Workshop
from optimizer.lineage import Line
from optimizer.transforms.facts import GraphFacts
from server.backends.base import Backend
from server.contract.device import this_device
from server.contract.layout import describe_file
from server.contract.profiles import SCHEMA as PROFILE_SCHEMA
from server.contract.profiles import Profiles

_GATE_OF = {"loading": Gate.LOADS, "comparing answers": Gate.ANSWERS, "scoring": Gate.SCORE, "a first look at speed": Gate.LOOK}
"""What an examination says that it is about to do → the gate at which it is."""


class Judge:
    """Of all candidates for one subject."""

    def __init__(self, subject: Subject, gates: Gates, here: Here, workshop: Workshop) -> None:
        self._subject, self._gates, self._workshop = subject, gates, workshop
        self._backends, self._build = here.backends, here.build
        self._score_tools = distributions_of(subject.packages)

    def examine(self, candidate: Candidate, earlier: Sequence[Trial]) -> Trial:
        """All gates up to the figures of the first look. `earlier`: the candidates that were examined already."""
        trial = Trial(candidate)
        lacking = self._lacking(candidate)
        if lacking is not None:
            return replace(trial, failed=Failed(Gate.NEEDS, lacking))
        try:
            trial = self._make(trial)
            same = self._same(trial, _graph(trial), earlier)
            trial = replace(trial, failed=same) if same else self._compile(trial)
        except Ended as ended:
            return replace(trial, failed=Failed(Gate.STEPS, str(ended), ended.log))
        failed = trial.failed or self._gates.size(_graph(trial).n_bytes)
        return replace(trial, failed=failed) if failed else self._examine(trial, _graph(trial))

    def weigh(self, trial: Trial, is_gate: bool = True) -> Trial:
        """Adds what its process weighs."""
        graph, backend = _graph(trial), self._backend(trial)
        order = self._order(
            f"weighing {trial.name}", {}, graph, backend, WeighTask(self._subject, graph.file, backend, graph.engine)
        )
        try:
            n_bytes: int = self._workshop.do(order).result.data["bytes"]
        except Ended as ended:
            return replace(trial, failed=Failed(Gate.MEMORY, str(ended), ended.log)) if is_gate else trial
        return replace(trial, memory_bytes=n_bytes, failed=self._gates.memory(n_bytes) if is_gate else None)

    def measure(self, trial: Trial) -> Trial:
        """Memory, and the full profile."""
        trial = self.weigh(trial)
        if trial.failed is not None:
            return trial
        try:
            piece = self._profile(trial.name, _graph(trial), self._backend(trial))
        except Ended as ended:
            return replace(trial, failed=Failed(Gate.PROFILE, str(ended), ended.log))
        return replace(trial, measured=read_measured(piece.folder), lines=(*trial.lines, piece.line))

    def back(self, trial: Trial, plain: Measured) -> Trial:
        """Adds the fallback: the same file must pass on the backend that is always there. `plain`: that of the plain export."""
        if not trial.candidate.steps:
            return replace(trial, fallback=plain)
        graph, name = replace(_graph(trial), compiled=None), f"{trial.name} by {OWN}"
        try:
            examined, piece = self._look_at(name, graph, self._subject.plain)
            if examined.failed is not None:
                failed = examined.failed
                return replace(trial, failed=Failed(Gate.FALLBACK, f"by {OWN}, {failed.gate.value}: {failed.reason}"))
            profile = self._profile(name, graph, self._subject.plain)
        except Ended as ended:
            return replace(trial, failed=Failed(Gate.FALLBACK, f"by {OWN}: {ended}", ended.log))
        lines = (*trial.lines, piece.line, profile.line)
        return replace(trial, fallback=read_measured(profile.folder), lines=lines)

    def duel(self, trials: Sequence[Trial], max_rows: int) -> Duel:
        """Measures trials that have a profile, two at least, in turns. Where that cannot be done their profiles have to do, and the note
        says so."""
        profiles = [_profiles(trial).profiles[0] for trial in trials]
        sizes = duel_sizes(max_rows, profiles[0].measured_lengths)
        rivals = tuple(
            Rival(_graph(trial).file, self._backend(trial), profile.placement, _graph(trial).engine)
            for trial, profile in zip(trials, profiles, strict=True)
        )
        try:
            piece = self._workshop.do(self._duel_order(trials, rivals, sizes))
        except Ended as ended:
            return Duel(f"not measured in turns ({ended}): profiles of different minutes decided", {}, {})
        names, seconds = [trial.name for trial in trials], piece.result.data["seconds"]
        at_once = [profile.placement.instances / profiles[0].placement.instances for profile in profiles]
        rates = {name: speed * n for name, speed, n in zip(names, speeds(seconds), at_once, strict=True)}
        told = ", ".join(f"{name} {rate:.2f} times" for name, rate in list(rates.items())[1:])
        note = f"measured again in turns, {N_ROUNDS} rounds: {told} the rate of {names[0]}"
        return Duel(note, rates, dict(zip(names, paces(profiles, seconds, sizes), strict=True)), piece.line)

    def _duel_order(self, trials: Sequence[Trial], rivals: tuple[Rival, ...], sizes: tuple[Size, ...]) -> Order:
        subject = self._subject
        config = {
            "rivals": [[trial.candidate.backend, str(rival.placement)] for trial, rival in zip(trials, rivals, strict=True)],
            "devices": [this_device(rival.backend.runtime, rival.backend.accelerator).to_json() for rival in rivals],
            "sizes": [asdict(size) for size in sizes],
            "rounds": N_ROUNDS,
            "effort": subject.options.effort_config(),
        }
        files = {
            f"{number} {name}": digest for number, trial in enumerate(trials) for name, digest in _graph(trial).digests.items()
        }
        inputs = files | {"of": subject.identity}
        return Order("the finalists in turns", config, _tools(), inputs, DuelTask(subject, rivals, sizes))

    def facts(self) -> GraphFacts | None:
        """What the plain export is made of; None where it cannot be read here."""
        try:
            return read_facts_of(self._material().result)
        except Ended:
            return None

    def _lacking(self, candidate: Candidate) -> str | None:
        """What must be installed for it."""
        if candidate.backend not in self._backends.usable:
            return self._backends.missing.get(candidate.backend, f"there is no backend {candidate.backend!r}")
        return next((reason for step in candidate.steps if (reason := missing(step)) is not None), None)

    def _material(self) -> Piece:
        subject = self._subject
        config = {"of": subject.identity, **subject.options.shape_config()}
        return self._workshop.do(Order("calibration data", config, _tools(), {"model": subject.sha256}, MaterialTask(subject)))

    def _make(self, trial: Trial) -> Trial:
        """The candidate's file. Raises Ended."""
        subject = self._subject
        file, sha256 = subject.model, subject.sha256
        notes: list[str] = []
        lines: list[Line] = []
        if trial.candidate.steps:
            material = self._material()
            lines.append(material.line)
        for step in trial.candidate.steps:
            piece = self._step(step, file, sha256, material)
            file = piece.folder / MODEL
            sha256 = describe_file(file).sha256
            notes.append(f"{step}: {piece.result.note}")
            lines.append(piece.line)
        graph = Graph(file, sha256, file.stat().st_size, tuple(notes))
        return replace(trial, graph=graph, lines=tuple(lines))

    def _compile(self, trial: Trial) -> Trial:
        """With the engine of its file, where its backend wants one. Raises Ended."""
        graph, products = _graph(trial), trial.candidate.products
        if products is None:
            return trial
        subject, backend, meter = self._subject, self._backend(trial), meter_of(self._backends)
        task = EngineTask(subject, graph.file, backend, products, self._build, meter, self._workshop.timings)
        config = {
            "products": products.value,
            "meter": None if meter is None else meter.runtime,
            "effort": subject.options.effort_config(),
            **subject.options.shape_config(),
        }
        piece = self._workshop.do(self._order(f"engine of {trial.name}", config, graph, backend, task))
        file = piece.folder / backend.model_file
        compiled = Compiled(file, describe_file(file).sha256, built_for_of(piece.result))
        graph = replace(graph, n_bytes=file.stat().st_size, notes=(*graph.notes, piece.result.note), compiled=compiled)
        return replace(trial, graph=graph, lines=(*trial.lines, piece.line))

    def _step(self, step: Step, file: Path, sha256: str, material: Piece) -> Piece:
        task = TransformTask(step, file, material.folder)
        inputs = {"model": sha256, "material": material.line.output}
        return self._workshop.do(Order(f"step {step}", step.config(), _tools(*step.tools), inputs, task))

    def _same(self, trial: Trial, graph: Graph, earlier: Sequence[Trial]) -> Failed | None:
        """A candidate that comes out as another one is not judged twice."""
        backend = trial.candidate.backend
        if backend == OWN and graph.sha256 == self._subject.sha256:
            return Failed(Gate.STEPS, "changes nothing: the file is that of the plain export")
        for other in earlier:
            if other.graph is None or other.graph.sha256 != graph.sha256:
                continue
            if (other.candidate.backend, other.candidate.products) == (backend, trial.candidate.products):
                return Failed(Gate.STEPS, f"comes out as the same file as {other.name}")
        return None

    def _examine(self, trial: Trial, graph: Graph) -> Trial:
        self._workshop.last_said = "loading"
        try:
            examined, piece = self._look_at(trial.name, graph, self._backend(trial))
        except Ended as ended:
            gate = _GATE_OF.get(self._workshop.last_said, Gate.LOADS)
            return replace(trial, failed=Failed(gate, str(ended), ended.log))
        return replace(trial, failed=examined.failed, examined=examined, lines=(*trial.lines, piece.line))

    def _look_at(self, name: str, graph: Graph, backend: Backend) -> tuple[Examined, Piece]:
        config = {"gates": asdict(self._gates), "effort": self._subject.options.effort_config()}
        task = ExamineTask(self._subject, graph.file, backend, self._gates, graph.engine)
        piece = self._workshop.do(self._order(f"answers of {name}", config, graph, backend, task))
        return Examined.from_json(piece.result.data["examined"]), piece

    def _profile(self, name: str, graph: Graph, backend: Backend) -> Piece:
        options = self._subject.options
        cosine = self._gates.row_cosine
        config = {
            "name": self._subject.name,
            **options.shape_config(),
            "text": [dict(options.text_inputs), options.embedding],
            "effort": options.effort_config(),
            "profile": PROFILE_SCHEMA,
            "row_cosine": cosine,
        }
        task = MeasureTask(self._subject, graph.file, backend, cosine, graph.engine)
        return self._workshop.do(self._order(f"profile of {name}", config, graph, backend, task))

    def _order(self, what: str, config: Mapping[str, Any], graph: Graph, backend: Backend, task: Any) -> Order:
        """A task whose result also depends on the machine, on the original, and on what runs that beside it."""
        device, plain = this_device(backend.runtime, backend.accelerator), self._subject.plain.runtime
        known = {**config, "device": device.to_json(), "beside": plain}
        tools = _tools(*self._score_tools)
        return Order(what, known, tools, {**graph.digests, "of": self._subject.identity}, task)

    def _backend(self, trial: Trial) -> Backend:
        """Its own; the plain export's is the one that it was checked with."""
        backend = trial.candidate.backend
        return self._subject.plain if backend == OWN else self._backends.usable[backend]


def _graph(trial: Trial) -> Graph:
    assert trial.graph is not None, "judged in the order of the gates"
    return trial.graph


def _profiles(trial: Trial) -> Profiles:
    assert trial.measured is not None, "judged in the order of the gates"
    return trial.measured.profiles


def _tools(*others: str) -> dict[str, str]:
    return tool_versions({"numpy", *others})
