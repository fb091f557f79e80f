"""What stops a run of the optimizer. Verdicts on a model are not errors: see stages.base."""

from __future__ import annotations


class OptimizeError(Exception):
    """The run cannot start or go on; the message names the thing and the remedy."""


class SourceError(OptimizeError):
    """The user's model file is wrong; the message names file, thing and remedy."""


class StageFailed(Exception):
    """A stage could not make anything of this model. `log` holds what its tool printed, for the report."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log
