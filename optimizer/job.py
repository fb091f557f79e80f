"""One whole run: recognise an unchanged one, execute the plan, write the report, publish, or say why not."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from optimizer.errors import OptimizeError
from optimizer.lineage import PUBLISH, Line, run_key, write_lineage
from optimizer.options import Options
from optimizer.plan import Plan, Source, make_plan
from optimizer.report import Story, write_report
from optimizer.run import Display, Execution, execute
from optimizer.sources.onnx_file import OnnxFile
from optimizer.sources.python_file import PythonFile
from optimizer.store import Store
from server.backends.base import Backend
from server.contract.errors import ContractError
from server.contract.layout import (
    LINEAGE,
    MANIFEST,
    PROFILE,
    REPORT,
    TOKENIZER,
    VersionFiles,
    check_model_name,
    describe_file,
    read_folder,
    read_json,
    read_version,
    versions,
    write_json,
)
from server.contract.manifest import Manifest
from server.contract.publish import publish, replace_wants, staging, sweep
from server.contract.wants import FILE as WANTS_FILE
from server.contract.wants import Wants, read_wants


class Verdict(Enum):
    """How a run ended."""

    PUBLISHED = "published"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks. `name` None: the source's own. `slo_s` None: keep what model.toml says. `force`: run anyway.

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """`version` is None when rejected; `execution` is None when nothing had to run. `report`: the page to read."""

    verdict: Verdict
    name: str
    wants: Wants
    version: VersionFiles | None
    execution: Execution | None
    report: Path


def optimize(request: Request, backend: Backend, display: Display) -> Outcome:
    """Raises OptimizeError for a wrong request or source file, ContractError for a damaged repository or bad name."""
    with closing(_open_source(request.source)) as source:
        _check_text_options(source, request.options)
        name = check_model_name(request.name or source.name)
        wants = _wants(request, name)
        plan = make_plan(source, name, backend, request.options)
        newest = None if request.force else _same_run(request.repository / name, plan.key)
        if newest is not None:
            _keep_wants(request, name, wants)
            return Outcome(Verdict.UNCHANGED, name, wants, newest, None, newest.folder / REPORT)
        execution = execute(plan, Store(request.cache), display)
    story = Story(name, request.command, backend.runtime, wants, execution)
    if execution.rejection is not None:
        return _reject(request, story, plan)
    return _publish(request, story, plan, backend)


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
        return wants if request.slo_s is None else replace(wants, slo_s=request.slo_s)
    if request.slo_s is None:
        raise OptimizeError(f"model {name!r} is new in {request.repository}: say how fast it must answer, like --slo 20ms")
    return Wants(request.slo_s)


def _changed_wants(request: Request, name: str, wants: Wants) -> Wants | None:
    """None when model.toml says so already: a file that people edit is rewritten only where it must be."""
    path = request.repository / name / WANTS_FILE
    return None if path.exists() and read_wants(path) == wants else wants


def _keep_wants(request: Request, name: str, wants: Wants) -> None:
    changed = _changed_wants(request, name, wants)
    if changed is not None:
        replace_wants(request.repository, name, changed)


def _same_run(model_folder: Path, key: str) -> VersionFiles | None:
    """The newest version, when an equal run made it and it is whole."""
    numbers = versions(model_folder)
    if not numbers or run_key(model_folder / str(numbers[-1])) != key:
        return None
    try:
        found = read_version(model_folder, numbers[-1])
    except ContractError:
        return None
    return found if found.profiles is not None else None


def _reject(request: Request, story: Story, plan: Plan) -> Outcome:
    """The report stays beside the cache; the repository is not touched."""
    folder = request.cache / "rejected" / f"{story.name}-{plan.key[:12]}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rejection = story.execution.rejection
    if rejection is not None and rejection.log:
        (folder / "tool.log").write_text(rejection.log, encoding="utf-8")
    write_report(folder / REPORT, story)
    return Outcome(Verdict.REJECTED, story.name, story.wants, None, story.execution, folder / REPORT)


def _publish(request: Request, story: Story, plan: Plan, backend: Backend) -> Outcome:
    request.repository.mkdir(parents=True, exist_ok=True)
    sweep(request.repository)
    with staging(request.repository) as scratch:
        folder = scratch / "version"
        folder.mkdir()
        files = _assemble(folder, story.name, story.execution, plan, backend)
        write_report(folder / REPORT, replace(story, version=files))
        number = publish(folder, request.repository, story.name, _changed_wants(request, story.name, story.wants))
    final = request.repository / story.name / str(number)
    published = replace(files, folder=final, version=number)
    return Outcome(Verdict.PUBLISHED, story.name, story.wants, published, story.execution, final / REPORT)


def _assemble(folder: Path, name: str, execution: Execution, plan: Plan, backend: Backend) -> VersionFiles:
    """All files of the version but the report, read back and verified."""
    artifacts = {stage: artifact.folder for stage, artifact in execution.artifacts.items()}
    shutil.copyfile(artifacts[plan.model_stage] / backend.model_file, folder / backend.model_file)
    shutil.copyfile(artifacts["intake"] / PROFILE, folder / PROFILE)
    model = describe_file(folder / backend.model_file)
    lines = [done.line() for done in execution.done]
    last = Line(PUBLISH, plan.key, {}, {"source": plan.source_digest}, {}, 0.0, model.sha256)
    lineage_sha256 = write_lineage(folder, [*lines, last])
    tokenizers = [path for stage in ("build", "take") if stage in artifacts and (path := artifacts[stage] / TOKENIZER).exists()]
    for path in tokenizers:
        shutil.copyfile(path, folder / TOKENIZER)
    draft = Manifest.from_json(read_json(artifacts["intake"] / MANIFEST, f"{name}/{MANIFEST}"), f"{name}/{MANIFEST}")
    earlier = tuple(done.result.check for done in execution.done if done.result.check is not None)
    manifest = replace(
        draft,
        files=(model, *(describe_file(folder / TOKENIZER) for _ in tokenizers), describe_file(folder / LINEAGE)),
        checks=(*earlier, *draft.checks),
        lineage_sha256=lineage_sha256,
    )
    write_json(folder / MANIFEST, manifest.to_json())
    return read_folder(folder, name, 0)
