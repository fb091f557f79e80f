"""Everything a load test may refuse to do. Each error is one sentence that a command can print as it is."""

from __future__ import annotations


class LoadTestError(Exception):
    """Root of the errors of this package; a command prints it and exits 1, without a traceback."""


class CannotConnect(LoadTestError):
    """Not one connection to the server could be opened."""


class MalformedReply(LoadTestError):
    """The server's bytes are not an HTTP/1.1 response, or not a V2 answer, that this package can read."""


class ServerError(LoadTestError):
    """The server answered with a status other than 200. `text` is its `error` member, or the start of its body."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"status {status}: {text}")
        self.status = status
        self.text = text


class ChildFailed(LoadTestError):
    """A server started by a load test ended, or did not become ready in time."""


class MissingData(LoadTestError):
    """Inputs, a model file or an optional package that a benchmark needs are not there."""


class BadInput(LoadTestError):
    """A flag, a trace, a data file or a scenario that cannot be used as it is; the text says where and what to change."""


class NothingListens(LoadTestError):
    """No process of this machine that we may look at listens on the port."""
