"""`ferry serve` with its statistics and metrics replaced by nothing, to measure what they cost. No part of the product."""

from __future__ import annotations

import sys
from typing import Any

from server.cli import main
from server.runtime import registry
from server.telemetry.model_stats import ModelStats


class NoStats(ModelStats):
    """Takes every note and keeps none."""

    def arrived(self) -> None: ...
    def stepped(self, *_: Any) -> None: ...
    def answered(self, *_: Any) -> None: ...
    def ended(self, *_: Any) -> None: ...
    def cancelled(self) -> None: ...


if __name__ == "__main__":
    registry.ModelStats = NoStats  # type: ignore[misc]
    sys.exit(main())
