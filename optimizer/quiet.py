"""Tools that print, warn and log at will: kept off the terminal, and kept for the report where they fail."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from optimizer.errors import OptimizeError, StageFailed

_NOISY_LOGGERS = ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir", "onnxruntime")


@contextmanager
def tool(doing: str) -> Iterator[None]:
    """Run other people's code quietly. Whatever it raises becomes StageFailed: `doing`, its reason, and as log all it printed."""
    log = io.StringIO()
    with quiet(log):
        try:
            yield
        except (StageFailed, OptimizeError):
            raise
        except Exception as error:  # tools raise whatever goes wrong in a dozen libraries
            raise StageFailed(f"{doing}: {reason(error)}", log.getvalue() + str(error)) from error


@contextmanager
def quiet(log: io.StringIO) -> Iterator[None]:
    """Everything that Python code prints, warns or logs goes into `log`."""
    handler = logging.StreamHandler(log)
    # The root last: some tools log there, and one calls basicConfig on import, which a root that has a handler ignores.
    loggers = [logging.getLogger(name) for name in (*_NOISY_LOGGERS, None)]
    before = [(logger.propagate, logger.handlers[:]) for logger in loggers]
    for logger in loggers:
        logger.propagate, logger.handlers = False, [handler]
    try:
        with warnings.catch_warnings(), redirect_stdout(log), redirect_stderr(log):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, (propagate, handlers) in zip(loggers, before, strict=True):
            logger.propagate, logger.handlers = propagate, handlers


def reason(error: BaseException) -> str:
    """The first line that says something, of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:600]}" if lines else type(error).__name__
