"""What is asked for when a decoder is optimized."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from optimizer.decoder.trial import SMALLER, Candidate, Gates
from optimizer.ladder.limits import TIME_S, Limits, usual_memory_bytes
from server.contract.layout import describe_file
from server.intake.measure import Effort
from server.intake.steps import ROWS, STEPS


@dataclass(frozen=True, slots=True)
class Wish:
    """`text`: a file to compare on; None: what the model itself writes. `slots`: most rows that are measured. `candidates`: to be tried after
    the plain export, which always is."""

    text: Path | None = None
    gates: Gates = field(default_factory=Gates)
    slots: int = ROWS[-1]
    candidates: tuple[Candidate, ...] = SMALLER
    effort: Effort = STEPS
    limits: Limits = field(default_factory=lambda: Limits(3 * TIME_S, usual_memory_bytes()))

    def config(self) -> dict[str, Any]:
        """All of it as JSON, for the key of a run."""
        text = None if self.text is None else describe_file(self.text).sha256
        return {**asdict(self), "text": text}
