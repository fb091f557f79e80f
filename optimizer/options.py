"""What the user may ask of a run beyond the model file itself. Values only; the command line is in cli."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from server.intake.measure import Effort

MAX_LOSS = 0.5
"""Points of the score that may be lost, where nobody says."""


@dataclass(frozen=True, slots=True)
class Options:
    """`lengths`, `pads` and `max_rows` override what a Python file sets (None, empty: its own).

    `max_loss` is in points of a score between 0 and 1: 0.5 allows a drop from 0.990 to 0.985. `tokenizer`, `text_inputs` (role →
    input) and `embedding` (the output) make a finished .onnx file take text; a Python file says so itself.
    """

    lengths: tuple[int, int] | None = None
    pads: Mapping[str, int | float] = field(default_factory=dict)
    max_rows: int | None = None
    max_loss: float = MAX_LOSS
    effort: Effort = field(default_factory=Effort)
    tokenizer: Path | None = None
    text_inputs: Mapping[str, str] = field(default_factory=dict)
    embedding: str | None = None

    def shape_config(self) -> dict[str, Any]:
        """The part that decides shapes and padding, as JSON."""
        return {"lengths": self.lengths and list(self.lengths), "pads": dict(self.pads), "max_rows": self.max_rows}

    def effort_config(self) -> dict[str, Any]:
        """How long cells are measured, as JSON."""
        return asdict(self.effort)
