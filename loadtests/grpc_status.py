"""gRPC's statuses in the words of a load test: answered, refused, failed or timed out."""

from __future__ import annotations

from urllib.parse import unquote

from loadtests.ledger import FAILED, TIMED_OUT

OK = 200
NAMES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_REFUSED = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "RESOURCE_EXHAUSTED": 429, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503,
}  # fmt: skip
"""What a server says on purpose, as the HTTP status of the same meaning. All others say that something broke."""

RESETS = {0: "NO_ERROR", 2: "INTERNAL_ERROR", 7: "REFUSED_STREAM", 8: "CANCEL", 11: "ENHANCE_YOUR_CALM"}
"""HTTP/2's own errors, those that servers send."""


def status_of(code: str, message: str) -> tuple[int, str]:
    """(status, reason) of the header fields grpc-status and grpc-message.

    The status is 200, the HTTP status of a refusal, FAILED, or TIMED_OUT; the reason begins with gRPC's own name.
    """
    name = NAMES[int(code)] if code.isascii() and code.isdigit() and int(code) < len(NAMES) else f"status {code!r}"
    if name == "OK":
        return OK, ""
    status = TIMED_OUT if name == "DEADLINE_EXCEEDED" else _REFUSED.get(name, FAILED)
    return status, f"{name}: {unquote(message)}" if message else name


def reset(error: int) -> tuple[int, str]:
    """The same for a stream that ended without a status. A refused stream was not begun: it may be tried again."""
    name = RESETS.get(error, f"error {error}")
    status = {"REFUSED_STREAM": 503, "ENHANCE_YOUR_CALM": 429}.get(name, FAILED)
    return status, f"the server reset the stream: {name}"
