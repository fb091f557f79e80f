"""Goes up the ladder: makes and judges each candidate, cheapest gates first, and ends in a decision. Publishes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from optimizer.ladder.candidate import OWN, PLAIN
from optimizer.ladder.decide import Decision, Standing, close_ones, decide
from optimizer.ladder.duel import Duel
from optimizer.ladder.families import default_candidates, left_out
from optimizer.ladder.gates import Failed, Gate, look, wanted_at_look
from optimizer.ladder.here import Here
from optimizer.ladder.judge import Judge
from optimizer.ladder.measure import Measured
from optimizer.ladder.recipe import Recipe
from optimizer.ladder.subject import Subject
from optimizer.ladder.trial import Graph, Trial
from optimizer.ladder.workshop import Workshop
from optimizer.store import Store
from server.contract.wants import Wants

N_FINALISTS = 3
"""So many get a full profile, which takes as long as all gates before it; those that are fastest at a first look."""


class Watcher(Protocol):
    """Where progress is shown."""

    def begin(self, stage: str) -> None:
        """Work on a candidate starts."""

    def step(self, what: str, done: int, total: int) -> None:
        """How far it is."""

    def judged(self, trial: Trial) -> None:
        """A candidate is done with, or has passed the cheaper half of the gates."""


@dataclass(frozen=True, slots=True)
class Climbed:
    """All trials, the plain export first, those that lost with their reason; and the decision. `duel`: how those that were close came
    out against each other; None: it was clear which is the best. `left_out`: what was not tried, and why, in sentences."""

    trials: Sequence[Trial]
    decision: Decision
    duel: Duel | None = None
    left_out: tuple[str, ...] = ()

    @property
    def winner(self) -> Trial:
        """The one to publish."""
        return next(trial for trial in self.trials if trial.name == self.decision.winner)


def climb(
    subject: Subject, plain: Measured, recipe: Recipe, here: Here, wants: Wants, store: Store, watcher: Watcher
) -> Climbed:
    """`plain`: what intake found of the plain export."""
    return _Climb(subject, plain, recipe, here, wants, store, watcher).run()


class _Climb:
    def __init__(
        self,
        subject: Subject,
        plain: Measured,
        recipe: Recipe,
        here: Here,
        wants: Wants,
        store: Store,
        watcher: Watcher,
    ) -> None:
        self._subject, self._plain, self._recipe, self._here, self._wants = subject, plain, recipe, here, wants
        self._watcher = watcher
        self._judge = Judge(subject, recipe.gates, here, Workshop(store, recipe.limits, watcher.step))

    def run(self) -> Climbed:
        candidates = self._recipe.candidates
        if candidates is None:
            self._watcher.begin("the default candidates")
            candidates = default_candidates(self._judge.facts(), self._here.backends)
        tried: list[Trial] = []
        for candidate in candidates:
            self._watcher.begin(candidate.name)
            tried.append(self._judge.examine(candidate, tried))
            self._watcher.judged(tried[-1])
        baseline = self._baseline(any(trial.failed is None for trial in tried))
        return self._settle([baseline, *self._measure(tried)])

    def _baseline(self, weigh: bool) -> Trial:
        """The plain export. What it weighs is of interest only beside others."""
        subject = self._subject
        graph = Graph(subject.model, subject.sha256, subject.model.stat().st_size)
        trial = Trial(PLAIN, graph=graph, measured=self._plain)
        return self._judge.weigh(trial, is_gate=False) if weigh else trial

    def _measure(self, tried: Sequence[Trial]) -> list[Trial]:
        """The fastest at a first look, one after the other, in the order in which they were tried."""
        done: dict[str, Trial] = {trial.name: trial for trial in tried}
        measured: list[Trial] = []
        for trial in sorted((trial for trial in tried if trial.failed is None), key=_speed, reverse=True):
            self._watcher.begin(trial.name)
            failed = self._look(trial, measured)
            one = replace(trial, failed=failed) if failed else self._judge.measure(trial)
            if one.failed is None:
                measured.append(one)
            done[one.name] = one
            self._watcher.judged(one)
        return list(done.values())

    def _look(self, trial: Trial, measured: Sequence[Trial]) -> Failed | None:
        assert trial.examined is not None, "judged in the order of the gates"
        assert trial.graph is not None, "judged in the order of the gates"
        mine, *theirs = ({} if one.examined is None else one.examined.look or {} for one in (trial, *measured))
        wanted = wanted_at_look(trial.graph.n_bytes / self._subject.model.stat().st_size, trial.examined.rows_per_s)
        failed = look(mine, dict(zip((one.name for one in measured), theirs, strict=True)), wanted)
        if failed is None and len(measured) >= N_FINALISTS:
            names = ", ".join(one.name for one in measured)
            return Failed(Gate.LOOK, f"{N_FINALISTS} others are faster on the whole and were measured in full: {names}")
        return failed

    def _settle(self, trials: Sequence[Trial]) -> Climbed:
        """Decides, by a duel where it is close; a winner that has no fallback is rejected, and the others decide again."""
        while True:
            passed = [standing for trial in trials if (standing := self._standing(trial)) is not None]
            duel = self._duel(trials, close_ones(passed, self._wants.slo_s, self._max_rows))
            if duel is not None:
                passed = [replace(one, profile=duel.on_one_pace(one.candidate.name, one.profile)) for one in passed]
            decision = decide(passed, self._wants.slo_s, self._max_rows)
            winner = next(trial for trial in trials if trial.name == decision.winner)
            if winner.candidate.backend != OWN and winner.fallback is None:
                self._watcher.begin(winner.name)
                backed = self._judge.back(winner, self._plain)
                self._watcher.judged(backed)
                trials = [backed if trial is winner else trial for trial in trials]
                continue
            lost = decision.lost
            trials = [replace(one, failed=lost[one.name]) if one.name in lost else one for one in trials]
            if duel is not None and duel.line is not None and winner.name in duel.rates:
                trials = [replace(one, lines=(*one.lines, duel.line)) if one.name == winner.name else one for one in trials]
            return Climbed(trials, decision, duel, left_out(self._here) if self._recipe.candidates is None else ())

    def _duel(self, trials: Sequence[Trial], close: Sequence[str]) -> Duel | None:
        if len(close) < 2:
            return None
        self._watcher.begin("the finalists in turns")
        return self._judge.duel([trial for trial in trials if trial.name in close], self._plain.manifest.max_rows)

    def _standing(self, trial: Trial) -> Standing | None:
        if trial.failed is not None or trial.measured is None or trial.graph is None:
            return None
        profiles = trial.measured.profiles
        chosen = profiles.choose(self._wants, self._max_rows, profiles.device.cores)
        return Standing(trial.candidate, chosen.profile, trial.graph.n_bytes)

    @property
    def _max_rows(self) -> int:
        measured = self._plain.manifest.max_rows
        return min(self._wants.max_rows or measured, measured)


def _speed(trial: Trial) -> float:
    """Geometric mean over the batches of the first look."""
    assert trial.examined is not None
    ratios = (trial.examined.look or {}).values()
    return math.exp(sum(math.log(ratio) for ratio in ratios) / max(1, len(ratios)))
