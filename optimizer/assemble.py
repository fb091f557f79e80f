"""The files of a version from what a run made: of the plain export, or of the candidate that won."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optimizer.ladder.candidate import OWN, PLAIN
from optimizer.ladder.climb import Climbed
from optimizer.ladder.measure import Measured
from optimizer.ladder.trial import Trial
from optimizer.lineage import PUBLISH, Line, write_lineage
from optimizer.plan import Plan
from optimizer.run import Execution
from server.backends.base import Backend
from server.contract.layout import (
    FALLBACK_PROFILE,
    LINEAGE,
    MANIFEST,
    PROFILE,
    TOKENIZER,
    VersionFiles,
    describe_file,
    read_folder,
    read_json,
    write_json,
)
from server.contract.manifest import ANSWERS, Check, Manifest
from server.contract.wants import Wants


@dataclass(frozen=True, slots=True)
class Publishing:
    """A run that ends in a version. `key`: of the whole run; `climbed` None: nothing but the plain export was tried."""

    name: str
    plan: Plan
    key: str
    backend: Backend
    execution: Execution
    climbed: Climbed | None
    wants: Wants

    @property
    def winner(self) -> Trial | None:
        """The candidate to publish; None: the plain export."""
        if self.climbed is None or self.climbed.winner.candidate is PLAIN:
            return None
        return self.climbed.winner

    @property
    def engine(self) -> Path | None:
        """What was built of it for one card; None: nothing."""
        winner = self.winner
        return None if winner is None or winner.graph is None else winner.graph.engine

    @property
    def model(self) -> Path:
        """The file to publish."""
        winner = self.winner
        if winner is not None and winner.graph is not None:
            return winner.graph.file
        return self.execution.artifacts[self.plan.model_stage].folder / self.backend.model_file


def assemble(folder: Path, publishing: Publishing) -> VersionFiles:
    """Writes all files of the version but the report into `folder`, and reads them back verified."""
    winner, name = publishing.winner, publishing.name
    shutil.copyfile(publishing.model, folder / publishing.backend.model_file)
    model = describe_file(folder / publishing.backend.model_file)
    engines = _copy_engine(folder, publishing)
    lineage_sha256 = write_lineage(folder, [*_lines(publishing), _last_line(publishing, model.sha256)])
    tokenizers = _copy_tokenizer(folder, publishing.execution)
    draft = _plain(folder, publishing) if winner is None else _won(folder, winner, publishing.execution)
    manifest = replace(
        draft,
        files=(model, *(describe_file(folder / file) for file in (*engines, *tokenizers)), describe_file(folder / LINEAGE)),
        lineage_sha256=lineage_sha256,
    )
    write_json(folder / MANIFEST, manifest.to_json())
    return read_folder(folder, name, 0)


def is_published_by(version: VersionFiles, winner: Trial) -> bool:
    """Whether a version is what publishing `winner` would make, as far as it serves."""
    assert winner.graph is not None, "a winner passed all gates"
    models = {entry.sha256 for entry in version.manifest.files}
    return set(winner.graph.digests.values()) <= models and version.manifest.backend == winner.candidate.backend


def _plain(folder: Path, publishing: Publishing) -> Manifest:
    """The plain export's profile, and its manifest with the checks of all stages."""
    measured = publishing.execution.artifacts["intake"].folder
    shutil.copyfile(measured / PROFILE, folder / PROFILE)
    draft = Manifest.from_json(read_json(measured / MANIFEST, publishing.name), publishing.name)
    return replace(draft, checks=(*_checks(publishing.execution), *draft.checks))


def _won(folder: Path, winner: Trial, execution: Execution) -> Manifest:
    """The winner's profiles, and its manifest with the gates that it passed."""
    measured, fallback, examined = winner.measured, winner.fallback, winner.examined
    assert measured is not None, "a winner passed all gates"
    assert examined is not None, "a winner passed all gates"
    agreement = examined.agreement
    assert agreement is not None, "a winner passed all gates"
    shutil.copyfile(measured.folder / PROFILE, folder / PROFILE)
    checks = [Check(ANSWERS, True, agreement.sentence())]
    if examined.scores:
        before = execution.result("score")
        original = "" if before is None else f", PyTorch {before.data['torch']:.4f}"
        checks.append(Check("score", True, f"{examined.scores[0]:.4f}{original}"))
    # Whether the tokenizer is the right one does not depend on the file; nothing else of the plain export's holds for this one.
    checks += [replace(one, detail=f"of the plain export: {one.detail}") for one in _checks(execution) if one.name == "text"]
    compiled = None if winner.graph is None else winner.graph.compiled
    built_for = None if compiled is None else compiled.built_for
    manifest = replace(measured.manifest, checks=(*checks, *measured.manifest.checks), built_for=built_for)
    if fallback is None:
        return manifest
    shutil.copyfile(fallback.folder / PROFILE, folder / FALLBACK_PROFILE)
    return replace(_for_both(manifest, fallback), fallback=OWN)


def _for_both(manifest: Manifest, fallback: Measured) -> Manifest:
    """What only one of two backends can do is promised by neither."""
    other = fallback.manifest
    ragged = manifest.ragged
    if ragged is not None and other.ragged is not None:
        ragged = replace(ragged, mixes=ragged.mixes and other.ragged.mixes)
    return replace(manifest, ragged=ragged, max_rows=min(manifest.max_rows, other.max_rows))


def decided_for(wants: Wants) -> dict[str, Any]:
    """What a decision between candidates hangs on besides them, as JSON."""
    return {"slo_s": wants.slo_s, "max_rows": wants.max_rows, "instances": wants.instances, "threads": wants.threads}


def _lines(publishing: Publishing) -> Sequence[Line]:
    """All stages, and all that was made for the winner."""
    winner = publishing.winner
    return [*(done.line() for done in publishing.execution.done), *(() if winner is None else winner.lines)]


def _last_line(publishing: Publishing, output: str) -> Line:
    config: dict[str, Any] = {}
    if publishing.climbed is not None:
        candidate = publishing.climbed.winner.candidate
        config = {**decided_for(publishing.wants), "published": candidate.config()}
    return Line(PUBLISH, publishing.key, config, {"source": publishing.plan.source_digest}, {}, 0.0, output)


def _copy_engine(folder: Path, publishing: Publishing) -> list[str]:
    """Its name, where the winner has one; the file of which it was built lies beside it, for the fallback and for the next build."""
    engine = publishing.engine
    if engine is None:
        return []
    shutil.copyfile(engine, folder / engine.name)
    return [engine.name]


def _copy_tokenizer(folder: Path, execution: Execution) -> list[str]:
    """Its name, where the version takes text."""
    for stage in ("build", "take"):
        artifact = execution.artifacts.get(stage)
        if artifact is not None and (artifact.folder / TOKENIZER).exists():
            shutil.copyfile(artifact.folder / TOKENIZER, folder / TOKENIZER)
            return [TOKENIZER]
    return []


def _checks(execution: Execution) -> list[Check]:
    return [done.result.check for done in execution.done if done.result.check is not None]
