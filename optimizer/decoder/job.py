"""One whole run for a checkpoint folder: recognise an unchanged one, climb, write the report, publish, or say why not."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from optimizer.decoder import export, quantize, reference
from optimizer.decoder.checkpoint import Checkpoint, read_checkpoint
from optimizer.decoder.climb import MODEL_FILES, Watcher, climb
from optimizer.decoder.page import Story, write_data, write_report
from optimizer.decoder.trial import Trial
from optimizer.decoder.wish import Wish
from optimizer.env import tool_versions
from optimizer.errors import OptimizeError
from optimizer.lineage import PUBLISH, Line, run_end, write_lineage
from optimizer.runs import Objectives, Verdict, keep_wants, newest_of_run, publish_version, rejected_folder
from optimizer.store import Store, stable_hash
from server.backends.decoding import DecoderBackend
from server.contract.device import this_device
from server.contract.layout import (
    CHAT_TEMPLATE,
    LINEAGE,
    MANIFEST,
    REPORT,
    REPORT_DATA,
    STEPS,
    TOKENIZER,
    VersionFiles,
    check_model_name,
    describe_file,
    read_folder,
    write_json,
)
from server.contract.manifest import ANSWERS, Check, Manifest
from server.contract.tensors import DataType, TensorSpec
from server.contract.wants import FILE as WANTS_FILE
from server.contract.wants import USUAL_GAP_S, Wants, read_wants

_TEXT_IN, _TEXT_OUT = "text_input", "text_output"
_TOOLS = sorted({*export.DISTRIBUTIONS, *quantize.DISTRIBUTIONS, *reference.DISTRIBUTIONS})


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks. `name` None: the folder's. `slo_s`, `gap_s` None: keep what model.toml says. `longest`: most tokens of a
    request. `force`: publish even when nothing changed. `command`: the line to type for the same again."""

    source: Path
    repository: Path
    cache: Path
    slo_s: float | None
    gap_s: float | None
    command: str
    name: str | None = None
    longest: int | None = None
    wish: Wish = field(default_factory=Wish)
    force: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """`version` is None when rejected; `story` when nothing had to run. `report`: the page to read."""

    verdict: Verdict
    name: str
    wants: Wants
    version: VersionFiles | None
    story: Story | None
    report: Path


def optimize_decoder(request: Request, backend: DecoderBackend, watcher: Watcher) -> Outcome:
    """Raises OptimizeError for a wrong request, folder or text, or a missing tool; ContractError for a wrong field or a damaged
    repository."""
    checkpoint = read_checkpoint(request.source, request.longest)
    if request.wish.text is not None and not request.wish.text.is_file():
        raise OptimizeError(f"{request.wish.text}: no such file; give a UTF-8 text to compare on, or leave --text out")
    _check_tools()
    name = check_model_name(request.name or request.source.resolve().name)
    wants = _wants(request, name)
    key = _key(checkpoint, request.wish, backend)
    newest = None if request.force else newest_of_run(request.repository / name, key)
    if newest is not None and run_end(newest.folder).config.get("gap_s") == _gap(wants):
        return _unchanged(request, name, wants, newest)
    climbed = climb(checkpoint, request.wish, _gap(wants), backend, Store(request.cache), watcher)
    story = Story(name, request.command, backend.runtime, wants, _gap(wants), checkpoint, climbed)
    if climbed.decision is None:
        return _reject(request, story, key)
    if newest is not None and _is_published(newest, climbed.winner):
        return _unchanged(request, name, wants, newest)
    return _publish(request, story, key, backend)


def _gap(wants: Wants) -> float:
    return USUAL_GAP_S if wants.gap_s is None else wants.gap_s


def _check_tools() -> None:
    for name in _TOOLS:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            raise OptimizeError(
                f"{name} is not installed; optimizing a checkpoint folder needs it: pip install 'ferry-serving[decoder]'"
            ) from None


def _key(checkpoint: Checkpoint, wish: Wish, backend: DecoderBackend) -> str:
    """Of the whole run. The gap is no part of it: another one alone may, but need not, end in another decision."""
    device = this_device(backend.runtime).to_json()
    return stable_hash([checkpoint.digest, checkpoint.generation.to_json(), wish.config(), device, tool_versions(_TOOLS)])


def _wants(request: Request, name: str) -> Wants:
    """model.toml as it shall be. Raises OptimizeError when a new model comes without an SLO."""
    path = request.repository / name / WANTS_FILE
    if path.exists():
        wants = read_wants(path)
    elif request.slo_s is None:
        raise OptimizeError(
            f"model {name!r} is new in {request.repository}: say how soon its first token must come, like --slo 500ms"
        )
    else:
        wants = Wants(request.slo_s)
    return wants.asked(request.slo_s, request.gap_s)


def _is_published(version: VersionFiles, winner: Trial) -> bool:
    assert winner.folder is not None, "a winner passed all gates"
    published = {entry.sha256 for entry in version.manifest.files}
    return all(describe_file(winner.folder / name).sha256 in published for name in MODEL_FILES)


def _unchanged(request: Request, name: str, wants: Wants, newest: VersionFiles) -> Outcome:
    """The version is the right one; only the objectives may be new."""
    keep_wants(request.repository, name, Objectives(wants, request.slo_s, request.gap_s))
    return Outcome(Verdict.UNCHANGED, name, wants, newest, None, newest.folder / REPORT)


def _reject(request: Request, story: Story, key: str) -> Outcome:
    failed = story.climbed.trials[0].failed
    folder = rejected_folder(request.cache, story.name, key, failed.log if failed else None)
    write_report(folder / REPORT, story)
    write_data(folder / REPORT_DATA, story)
    return Outcome(Verdict.REJECTED, story.name, story.wants, None, story, folder / REPORT)


def _publish(request: Request, story: Story, key: str, backend: DecoderBackend) -> Outcome:
    def fill(folder: Path) -> VersionFiles:
        files = _assemble(folder, story, key, backend)
        write_report(folder / REPORT, story)
        write_data(folder / REPORT_DATA, story)
        return files

    published = publish_version(request.repository, story.name, Objectives(story.wants, request.slo_s, request.gap_s), fill)
    return Outcome(Verdict.PUBLISHED, story.name, story.wants, published, story, published.folder / REPORT)


def _assemble(folder: Path, story: Story, key: str, backend: DecoderBackend) -> VersionFiles:
    """All files of the version but the report, read back verified."""
    winner, checkpoint = story.climbed.winner, story.checkpoint
    assert winner.folder is not None, "a winner passed all gates"
    assert winner.steps is not None, "a winner was measured"
    for name in MODEL_FILES:
        shutil.copyfile(winner.folder / name, folder / name)
    shutil.copyfile(checkpoint.tokenizer, folder / TOKENIZER)
    if checkpoint.template is not None:
        (folder / CHAT_TEMPLATE).write_text(checkpoint.template, encoding="utf-8")
    write_json(folder / STEPS, winner.steps.to_json())
    lineage_sha256 = write_lineage(folder, [*winner.lines, _last_line(story, key, folder)])
    template = [] if checkpoint.template is None else [CHAT_TEMPLATE]
    manifest = Manifest(
        name=story.name,
        backend=backend.name,
        files=tuple(describe_file(folder / name) for name in (*MODEL_FILES, TOKENIZER, *template, LINEAGE)),
        inputs=(TensorSpec(_TEXT_IN, DataType.BYTES, (1,)),),
        outputs=(TensorSpec(_TEXT_OUT, DataType.BYTES, (1,)),),
        ragged=None,
        max_rows=1,
        checks=tuple(checks(winner)),
        lineage_sha256=lineage_sha256,
        generation=checkpoint.generation,
    )
    write_json(folder / MANIFEST, manifest.to_json())
    return read_folder(folder, story.name, 0)


def checks(trial: Trial) -> Sequence[Check]:
    """What a candidate that passed was found to keep."""
    assert trial.likeness is not None, "it passed"
    name = "parity" if trial.candidate.bits is None else ANSWERS
    alone = "not a bit differs" if trial.company == 0 else f"a logit differs by {trial.company:.2g}"
    return [
        Check(name, True, trial.likeness.sentence()),
        Check("rows", trial.company == 0, f"alone and in company, prompts whole and in chunks: {alone}"),
    ]


def _last_line(story: Story, key: str, folder: Path) -> Line:
    config = {"gap_s": story.gap_s, "slo_s": story.wants.slo_s, "published": story.climbed.winner.name}
    output = describe_file(folder / MODEL_FILES[0]).sha256
    return Line(PUBLISH, key, config, {"source": story.checkpoint.digest}, {}, 0.0, output)
