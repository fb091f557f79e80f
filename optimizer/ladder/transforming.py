"""One step of a candidate: runs a transform, and leaves a script that does it again."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizer.errors import OptimizeError, SourceError, StageFailed
from optimizer.ladder.candidate import Step
from optimizer.ladder.subject import read_material
from optimizer.sources.scan import scan_file
from optimizer.stages.base import Result
from optimizer.transforms.base import Made, Transform
from optimizer.transforms.catalog import find_transform
from server.contract.layout import describe_file
from server.intake.measure import Progress

MODEL, SCRIPT = "model.onnx", "reproduce.py"
_MODULE = "_ferry_transform"
_TEXT = '''"""Makes the {model} beside it again: python {script} INPUT.onnx MATERIAL_FOLDER OUTPUT.onnx

INPUT.onnx: the file with sha256 {input}
MATERIAL_FOLDER: the folder with samples.npz and sha256 {samples} of that file
Step: {step}
"""

import sys

from optimizer.ladder.transforming import again

again({name!r}, {options!r}, {file!r}, {digest!r}, *sys.argv[1:], wanted={output!r})
'''


@dataclass(frozen=True, slots=True)
class TransformTask:
    """`model`: the file to start from; `material`: MaterialTask's folder."""

    step: Step
    model: Path
    material: Path

    def __call__(self, out: Path, progress: Progress) -> Result:
        """Writes MODEL and SCRIPT. Raises StageFailed when the transform cannot do it, OptimizeError for a wrong option or file."""
        progress(str(self.step), 0, 1)
        made = apply(self.step, self.model, self.material, out / MODEL)
        n_before, n_after = self.model.stat().st_size, (out / MODEL).stat().st_size
        (out / SCRIPT).write_text(self._script(out / MODEL), encoding="utf-8")
        note = f"{made.note} ({n_before / 1e6:.2f} MB to {n_after / 1e6:.2f} MB)"
        return Result(note, None, {"note": made.note, "found": dict(made.data)})

    def _script(self, output: Path) -> str:
        step = self.step
        return _TEXT.format(
            model=MODEL, script=SCRIPT, step=step, name=step.name, options=dict(step.options),
            file=None if step.file is None else str(step.file), digest=step.digest,
            input=describe_file(self.model).sha256, samples=describe_file(self.material / "samples.npz").sha256,
            output=describe_file(output).sha256,
        )  # fmt: skip


def apply(step: Step, model: Path, material: Path, output: Path) -> Made:
    """The step itself. Raises StageFailed and OptimizeError as transforms do."""
    transform = _transform(step)
    made = transform(model, output, read_material(material), step.options)
    if not isinstance(made, Made):
        raise OptimizeError(f"{step.name} returned {type(made).__name__}; return optimizer.transforms.base.Made(note)")
    if not output.is_file():
        raise StageFailed(f"{step.name} wrote no file; write the model to the path of the second argument")
    return made


def again(
    name: str, options: Mapping[str, Any], file: str | None, digest: str, model: str, material: str, output: str, *, wanted: str
) -> None:
    """For SCRIPT: repeats a step, and says whether the same file came out. Raises SystemExit with what differs."""
    step = Step(name, options, None if file is None else Path(file), digest)
    if step.file is not None and scan_file(step.file).digest(step.file.parent) != digest:
        raise SystemExit(f"{step.file} has changed since; its digest was {digest}")
    apply(step, Path(model), Path(material), Path(output))
    found = describe_file(Path(output)).sha256
    if found != wanted:
        raise SystemExit(f"{output} has sha256 {found}, {wanted} was made before: other inputs, or other versions of the tools")
    print(f"{output}: the same file again, sha256 {found}")


def _transform(step: Step) -> Transform:
    if step.file is None:
        return find_transform(step.name).run
    return _own_transform(step.file, step.function)


def _own_transform(file: Path, function: str) -> Transform:
    """Raises SourceError when the file has no such function. What the file raises while it is imported comes through."""
    spec = importlib.util.spec_from_file_location(_MODULE, file)
    if spec is None or spec.loader is None:
        raise SourceError(f"{file}: is no Python file; give it the ending .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    sys.path.insert(0, str(file.parent))
    spec.loader.exec_module(module)
    found: Transform | None = getattr(module, function, None)
    if not callable(found):
        raise SourceError(
            f"{file}: {function}() is missing; define: def {function}(model, output, material, options) -> Made: …"
        )
    return found
