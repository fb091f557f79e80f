"""One whole run: recognise an unchanged one, execute the plan, write the report, publish, or say why not."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from optimizer.assemble import Publishing, assemble, decided_for, is_published_by
from optimizer.env import tool_versions
from optimizer.errors import OptimizeError
from optimizer.ladder.climb import Watcher, climb
from optimizer.ladder.here import Here
from optimizer.ladder.measure import read_measured
from optimizer.ladder.page import Table
from optimizer.ladder.recipe import Recipe, read_recipe, usual_recipe
from optimizer.ladder.subject import Subject
from optimizer.lineage import run_end
from optimizer.options import Options
from optimizer.plan import Plan, Source, make_plan
from optimizer.report import Story, candidates, write_data, write_report
from optimizer.run import Display, Execution, execute
from optimizer.runs import Objectives, Verdict, keep_wants, newest_of_run, publish_version, rejected_folder
from optimizer.sources.onnx_file import OnnxFile
from optimizer.sources.python_file import PythonFile
from optimizer.store import Store, stable_hash
from optimizer.transforms.catalog import TRANSFORMS
from server.backends.base import Backend
from server.contract.layout import (
    REPORT,
    REPORT_DATA,
    VersionFiles,
    check_model_name,
    describe_file,
)
from server.contract.wants import FILE as WANTS_FILE
from server.contract.wants import Wants, read_wants


@dataclass(frozen=True, slots=True)
class LadderWish:
    """That candidates be tried: with what there is here, and by a recipe (None: the default one)."""

    here: Here
    recipe: Path | None = None

    def read(self, max_loss: float) -> Recipe:
        """Raises ContractError and OptimizeError for a wrong recipe."""
        if self.recipe is None:
            return usual_recipe(max_loss)
        return read_recipe(self.recipe, max_loss, {*self.here.backends.usable, *self.here.backends.missing})

    def config(self) -> dict[str, Any]:
        """What is usable here, as JSON, for the key of the run."""
        usable = self.here.backends.usable
        cards = {name: card.to_json() for name, backend in usable.items() if (card := backend.accelerator) is not None}
        return {name: backend.runtime for name, backend in usable.items()} | ({"cards": cards} if cards else {})


class Screen(Display, Watcher, Protocol):
    """Where all progress is shown."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks. `name` None: the source's own. `slo_s` None: keep what model.toml says. `force`: run anyway. `ladder` None:
    the plain export is published, and nothing else tried.

    `command` is the line to type for the same again, for the report.
    """

    source: Path
    repository: Path
    cache: Path
    slo_s: float | None
    command: str
    name: str | None = None
    options: Options = field(default_factory=Options)
    force: bool = False
    ladder: LadderWish | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """`version` is None when rejected; `execution` is None when nothing had to run, `candidates` when none were tried.
    `report`: the page to read."""

    verdict: Verdict
    name: str
    wants: Wants
    version: VersionFiles | None
    execution: Execution | None
    report: Path
    candidates: Table | None = None


def optimize(request: Request, backend: Backend, display: Screen) -> Outcome:
    """Raises OptimizeError for a wrong request or source file, ContractError for a damaged repository or bad name."""
    with closing(_open_source(request.source)) as source:
        _check_text_options(source, request.options)
        name = check_model_name(request.name or source.name)
        wants = _wants(request, name)
        plan = make_plan(source, name, backend, request.options)
        recipe = None if request.ladder is None else request.ladder.read(request.options.max_loss)
        key = _key(plan, recipe, request.ladder)
        newest = None if request.force else newest_of_run(request.repository / name, key)
        if newest is not None and (recipe is None or _was_decided_for(newest, wants)):
            return _unchanged(request, name, wants, newest)
        store = Store(request.cache)
        execution = execute(plan, store, display)
        story = Story(name, request.command, backend.runtime, wants, execution)
        if execution.rejection is not None:
            return _reject(request, story, plan)
        if recipe is not None and request.ladder is not None:
            subject = _subject(source, name, plan, backend, execution, request.options)
            measured = read_measured(execution.artifacts["intake"].folder)
            story = replace(story, climbed=climb(subject, measured, recipe, request.ladder.here, wants, store, display))
    if newest is not None and story.climbed is not None and is_published_by(newest, story.climbed.winner):
        return _unchanged(request, name, wants, newest)
    return _publish(request, story, plan, backend, key)


def _was_decided_for(version: VersionFiles, wants: Wants) -> bool:
    """Where it was not, candidates are decided about again, which takes seconds while what they were measured by is kept;
    and so each time, until another one wins."""
    config = run_end(version.folder).config
    return all(config.get(name) == value for name, value in decided_for(wants).items())


def _key(plan: Plan, recipe: Recipe | None, ladder: LadderWish | None) -> str:
    """Of the whole run. The objective is no part of it: another one alone may, but need not, end in another decision."""
    if recipe is None or ladder is None:
        return plan.key
    known = {tool for entry in TRANSFORMS.values() for tool in entry.distributions()}
    own = {tool for candidate in recipe.candidates or () for step in candidate.steps for tool in step.tools}
    return stable_hash([plan.key, recipe.config(), ladder.config(), tool_versions(known | own)])


def _subject(source: Source, name: str, plan: Plan, backend: Backend, execution: Execution, options: Options) -> Subject:
    """What the candidates are candidates for."""
    folder = execution.artifacts[plan.model_stage].folder
    sha256 = describe_file(folder / backend.model_file).sha256
    if not isinstance(source, PythonFile):
        taken = execution.artifacts[plan.model_stage].digest  # its tokenizer too
        asked = [options.shape_config(), dict(options.text_inputs), options.embedding]
        return Subject(name, folder, sha256, backend, None, None, stable_hash([sha256, taken, asked]), frozenset(), options)
    built = execution.artifacts["build"]
    identity = [sha256, built.digest]
    subject = Subject(name, folder, sha256, backend, built.folder, source.path, "", frozenset(), options)
    if subject.score is None:  # then the file itself has no say in any verdict
        return replace(subject, identity=stable_hash(identity))
    return replace(subject, identity=stable_hash([*identity, source.digest]), packages=source.packages)


def _unchanged(request: Request, name: str, wants: Wants, newest: VersionFiles) -> Outcome:
    """The version is the right one; only the objective may be new."""
    keep_wants(request.repository, name, Objectives(wants, request.slo_s))
    return Outcome(Verdict.UNCHANGED, name, wants, newest, None, newest.folder / REPORT)


def _open_source(path: Path) -> Source:
    if not path.is_file():
        raise OptimizeError(f"{path}: no such file; give a Python file with build() and samples(), or an .onnx file")
    return OnnxFile(path) if path.suffix == ".onnx" else PythonFile(path)


def _check_text_options(source: Source, options: Options) -> None:
    if isinstance(source, PythonFile) and (options.tokenizer or options.text_inputs or options.embedding):
        raise OptimizeError(
            f"{source.path}: --tokenizer, --text-input and --embedding are for .onnx files; define tokenizer() and EMBEDDING in it"
        )
    if options.tokenizer is None and (options.text_inputs or options.embedding):
        raise OptimizeError(
            "--text-input and --embedding are for models that take text; give the --tokenizer that reads texts, too"
        )
    if options.tokenizer is not None and not options.tokenizer.is_file():
        raise OptimizeError(f"{options.tokenizer}: no such file; give a tokenizer.json of the tokenizers library")


def _wants(request: Request, name: str) -> Wants:
    """model.toml as it shall be. Raises OptimizeError when a new model comes without an SLO."""
    path = request.repository / name / WANTS_FILE
    if path.exists():
        wants = read_wants(path)
        return wants.asked(request.slo_s)
    if request.slo_s is None:
        raise OptimizeError(f"model {name!r} is new in {request.repository}: say how fast it must answer, like --slo 20ms")
    return Wants(request.slo_s)


def _reject(request: Request, story: Story, plan: Plan) -> Outcome:
    rejection = story.execution.rejection
    folder = rejected_folder(request.cache, story.name, plan.key, rejection.log if rejection else None)
    write_report(folder / REPORT, story)
    write_data(folder / REPORT_DATA, story)
    return Outcome(Verdict.REJECTED, story.name, story.wants, None, story.execution, folder / REPORT)


def _publish(request: Request, story: Story, plan: Plan, backend: Backend, key: str) -> Outcome:
    publishing = Publishing(story.name, plan, key, backend, story.execution, story.climbed, story.wants)

    def fill(folder: Path) -> VersionFiles:
        files = assemble(folder, publishing)
        told = replace(story, version=files)
        write_report(folder / REPORT, told)
        write_data(folder / REPORT_DATA, told)
        return files

    published = publish_version(request.repository, story.name, Objectives(story.wants, request.slo_s), fill)
    report = published.folder / REPORT
    return Outcome(Verdict.PUBLISHED, story.name, story.wants, published, story.execution, report, candidates(story))
