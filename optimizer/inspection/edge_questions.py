"""Made-up inputs at the edges of what a manifest allows, and whether a version's answers to them are numbers.

There is no original to compare with here: that was done before the version was published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from optimizer.inspection.versions import manifest_signature, marks
from server.backends.base import Array, Session
from server.contract.manifest import Manifest
from server.intake.checks import run_checked
from server.intake.errors import IntakeError
from server.intake.samples import made_up_samples


@dataclass(frozen=True, slots=True)
class Edge:
    """What a version made of one edge. `fault`: why its answer is none; None: it is one."""

    name: str
    rows: int
    length: int
    fault: str | None = None

    @property
    def place(self) -> str:
        """In words."""
        length = f" of length {self.length}" if self.length else ""
        return f"{self.name}, {self.rows} row{'s' * (self.rows > 1)}{length}"


def ask_edges(session: Session, manifest: Manifest) -> list[Edge]:
    """The shortest and the longest input, alone and in the largest batch, and zeros."""
    signature, lengths = manifest_signature(manifest), marks(manifest)
    samples = made_up_samples(signature, lengths[-1])
    asked = {
        (_name(length, manifest), rows, length): samples.batch(rows, length)
        for length in dict.fromkeys((lengths[0], lengths[-1]))
        for rows in dict.fromkeys((1, manifest.max_rows))
    }
    middle = lengths[len(lengths) // 2]
    asked["zeros", 1, middle] = _zeros(samples.batch(1, middle), manifest)
    return [_ask(session, manifest, name, length, inputs) for (name, _, length), inputs in asked.items()]


def _ask(session: Session, manifest: Manifest, name: str, length: int, inputs: dict[str, Array]) -> Edge:
    rows = len(next(iter(inputs.values())))
    try:
        outputs = run_checked(session, manifest_signature(manifest), inputs)
    except IntakeError as error:
        return Edge(name, rows, length, fault=str(error))
    for spec, array in zip(manifest.outputs, outputs, strict=True):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return Edge(name, rows, length, fault=f"output {spec.name!r} is not finite")
    return Edge(name, rows, length)


def _name(length: int, manifest: Manifest) -> str:
    if manifest.ragged is None:
        return "made-up input"
    return "shortest input" if length == manifest.ragged.shortest else "longest input"


def _zeros(inputs: Mapping[str, Array], manifest: Manifest) -> dict[str, Array]:
    """All numbers zero, but for masks, which are known by their role or name: a mean over nothing is no number, and need not be."""
    role = manifest.text.mask if manifest.text else None
    return {
        name: array if name == role or "mask" in name or array.dtype.kind not in "fiu" else np.zeros_like(array)
        for name, array in inputs.items()
    }
