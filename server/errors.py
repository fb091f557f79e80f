"""One tree of errors and one table: error → HTTP status, gRPC status, metric label, worth retrying."""

from __future__ import annotations


class FerryError(Exception):
    """Base of everything a client is told. `str(error)` names what is wrong and what to change."""

    status = 500
    grpc_status = "INTERNAL"
    label = "internal"
    retryable = False
    retry_after_s: float | None = None


class BadRequest(FerryError):
    """The request itself is wrong."""

    status, grpc_status, label = 400, "INVALID_ARGUMENT", "bad_request"


class BadText(BadRequest):
    """The text was accepted, and the tokenizer found that it has too many tokens, or cannot be tokenised."""

    label = "bad_text"


class TooLarge(FerryError):
    """The body is over the limit."""

    status, grpc_status, label = 413, "RESOURCE_EXHAUSTED", "too_large"


class Unauthorized(FerryError):
    """The token is missing or wrong."""

    status, grpc_status, label = 401, "UNAUTHENTICATED", "unauthorized"


class NotFound(FerryError):
    """No such model, version or route."""

    status, grpc_status, label = 404, "NOT_FOUND", "not_found"


class MethodNotAllowed(FerryError):
    """The route exists, for another method."""

    status, grpc_status, label = 405, "UNIMPLEMENTED", "method"


class Unsupported(FerryError):
    """Part of the protocol that ferry does not offer."""

    status, grpc_status, label = 501, "UNIMPLEMENTED", "unsupported"


class TurnedOff(FerryError):
    """Part of the protocol that ferry offers when a setting says so; the message names the setting."""

    status, grpc_status, label = 403, "UNIMPLEMENTED", "turned_off"


class AlreadyExists(FerryError):
    """The name is taken."""

    status, grpc_status, label = 400, "ALREADY_EXISTS", "already_exists"


class UnknownEncoding(Unsupported):
    """A Content-Encoding that ferry cannot unpack; the reply says which it can."""


class TooSlow(FerryError):
    """The request did not come in within its time."""

    status, grpc_status, label, retryable = 408, "DEADLINE_EXCEEDED", "too_slow", True


class HeadTooLarge(FerryError):
    """The request line and headers are over the limit."""

    status, grpc_status, label = 431, "INVALID_ARGUMENT", "head_too_large"


class NotReady(FerryError):
    """The model or the whole server is loading, unloading or failed to load."""

    status, grpc_status, label, retryable = 503, "UNAVAILABLE", "not_ready", True


class NotYet(NotReady):
    """It will soon serve, or be told of better: the model is loading, or a front end has heard that it goes but not yet why."""

    retry_after_s = 1.0


class EngineAway(NotYet):
    """A front end has no engine at the moment."""

    label = "engine_away"


class EngineLost(FerryError):
    """The engine died with this request in it; another try may succeed."""

    status, grpc_status, label, retryable, retry_after_s = 503, "UNAVAILABLE", "engine_lost", True, 1.0


class Refused(FerryError):
    """The scheduler predicts that the answer would be late, or its queue is full."""

    status, grpc_status, retryable = 503, "UNAVAILABLE", True

    def __init__(self, message: str, label: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.label = label
        self.retry_after_s = retry_after_s


class TooLong(Refused):
    """A generating request that there is never room or time for; the message says which limit it is."""

    status, grpc_status, retryable = 400, "INVALID_ARGUMENT", False


class RateLimited(Refused):
    """The client has had its share for now; others have not."""

    status, grpc_status, label = 429, "RESOURCE_EXHAUSTED", "rate_limit"

    def __init__(self, message: str, label: str = label, retry_after_s: float | None = None) -> None:
        super().__init__(message, label, retry_after_s)
        self.retryable = retry_after_s is not None


class ModelFailed(FerryError):
    """The model raised on this very request, or returned something that is not its answer."""

    label = "model_error"


class InstanceLost(FerryError):
    """The instance that ran the request died; another try may succeed."""

    status, grpc_status, label, retryable = 503, "UNAVAILABLE", "instance_lost", True


class Cancelled(FerryError):
    """The client went away; nobody reads this."""

    status, grpc_status, label = 499, "CANCELLED", "cancelled"
