"""Which stages a source goes through, and the key of the whole run; nothing is executed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from optimizer.checks.parity import parity
from optimizer.checks.score import score
from optimizer.checks.text import text_parity
from optimizer.env import distributions_of, tool_versions
from optimizer.options import Options
from optimizer.sources.onnx_file import OnnxFile
from optimizer.sources.python_file import PythonFile
from optimizer.stages.base import Result, Stage
from optimizer.stages.build import build
from optimizer.stages.export import OPSET, export
from optimizer.stages.intake import intake
from optimizer.stages.take import ORIGINAL, take
from optimizer.stages.verify import verify
from optimizer.store import stable_hash
from server.backends.base import Backend
from server.contract.device import this_device
from server.contract.layout import describe_file
from server.contract.profiles import SCHEMA as PROFILE_SCHEMA
from server.intake.build import MAX_ROWS
from server.intake.checks import ATOL, RTOL
from server.intake.measure import Progress

if TYPE_CHECKING:
    from optimizer.sources.opened import Opened

SOURCE = "source"
_TOKENIZERS = ("tokenizers",)
Source = PythonFile | OnnxFile


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in order; `model_stage` makes the model file."""

    source_digest: str
    model_stage: str
    stages: tuple[Stage, ...]

    @property
    def key(self) -> str:
        """Sha256 of all that decides the outcome: source, settings, tools and device."""
        return stable_hash([self.source_digest, [[s.name, s.config, s.tools] for s in self.stages]])


def make_plan(source: Source, name: str, backend: Backend, options: Options) -> Plan:
    """Raises OptimizeError when a tool that the source needs is not installed."""
    if isinstance(source, PythonFile):
        model_stage, stages = "export", _python_stages(source, backend, options)
        reads: tuple[str, ...] = ("build", "export")
    else:
        model_stage, stages, reads = "take", _onnx_stages(source, backend, options), ("take",)
    return Plan(source.digest, model_stage, (*stages, _intake(name, backend, options, reads)))


def _python_stages(source: PythonFile, backend: Backend, options: Options) -> tuple[Stage, ...]:
    original = tool_versions({"torch", "numpy", *distributions_of(source.packages)})
    exporter = {**original, **tool_versions({"onnx", "onnxscript"})}
    runtime = {**tool_versions({"numpy"}), backend.name: backend.runtime.split()[-1]}
    shapes = options.shape_config()
    opening = _Opening(source, options)
    export_config = {**shapes, "exporter": "torch.onnx dynamo", "opset": OPSET}
    return (
        Stage("build", (SOURCE,), shapes, original, opening.build),
        Stage("export", (SOURCE, "build"), export_config, exporter, opening.export),
        Stage("verify", ("build", "export"), {}, {**runtime, **tool_versions({"onnx"})}, partial(verify, backend=backend)),
        Stage("parity", ("build", "export"), {"atol": ATOL, "rtol": RTOL}, runtime, partial(parity, backend=backend)),
        Stage(
            "text", ("build", "export"), {"atol": ATOL, "rtol": RTOL},
            {**runtime, **tool_versions(distributions_of(_TOKENIZERS))}, partial(text_parity, backend=backend),
        ),
        Stage(
            "score", (SOURCE, "build", "export"), {"max_loss": options.max_loss}, {**original, **runtime},
            partial(score, source=source, backend=backend, max_loss=options.max_loss),
        ),
    )  # fmt: skip


class _Opening:
    """The two stages that need the module in memory share it; torch is imported when the first of them runs."""

    def __init__(self, source: PythonFile, options: Options) -> None:
        self._source, self._options = source, options
        self._opened: Opened | None = None

    def build(self, inputs: Mapping[str, Path], out: Path, progress: Progress) -> Result:
        return build(self._open(), inputs, out, progress)

    def export(self, inputs: Mapping[str, Path], out: Path, progress: Progress) -> Result:
        return export(self._open(), inputs, out, progress)

    def _open(self) -> Opened:
        from optimizer.sources.opened import Opened

        self._opened = self._opened or Opened(self._source, self._options)
        return self._opened


def _onnx_stages(source: OnnxFile, backend: Backend, options: Options) -> tuple[Stage, ...]:
    tools = {**tool_versions({"numpy"}), backend.name: backend.runtime.split()[-1]}
    config = {"check": ORIGINAL}
    if options.tokenizer:
        config["tokenizer"] = describe_file(options.tokenizer).sha256
    action = partial(take, path=source.path, backend=backend, tokenizer=options.tokenizer)
    return (Stage("take", (SOURCE,), config, tools, action),)


def _intake(name: str, backend: Backend, options: Options, reads: tuple[str, ...]) -> Stage:
    config = {
        "name": name,
        **options.shape_config(),
        "most_rows": MAX_ROWS,
        "text": [dict(options.text_inputs), options.embedding],
        "effort": options.effort_config(),
        "profile": PROFILE_SCHEMA,
        "device": this_device(backend.runtime, backend.accelerator).to_json(),
    }
    action = partial(intake, name=name, backend=backend, options=options)
    return Stage("intake", reads, config, tool_versions({"numpy", *distributions_of(_TOKENIZERS)}), action)
