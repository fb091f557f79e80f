"""The terms of a request: how much time it has, how urgent it is, and who asks; from its head, its body, or both."""

from __future__ import annotations

import re
from typing import NamedTuple

from server.contract.classes import Classes
from server.contract.durations import parse_duration
from server.contract.errors import ContractError
from server.errors import BadRequest

PRIORITY = b"x-request-priority"
TIMEOUT = b"x-request-timeout"

_LONGEST_VALUE = 64
_find_priority = re.compile(b'"priority"').search  # unlike find(), it searches memoryviews too


class Terms(NamedTuple):
    """`timeout_s` None: the SLO alone counts. `priority`: 1 for the most urgent class, 0 for the model's default."""

    timeout_s: float | None
    priority: int


NO_TERMS = Terms(None, 0)


class HeadTerms(NamedTuple):
    """The same, as headers say it, before the model is known; `client` is who asks by the key in its headers, 0 without one."""

    timeout_s: float | None
    priority: str
    client: int


def read_head_terms(timeout: bytes, priority: bytes, client: int) -> HeadTerms:
    """Empty values count as not given. Raises BadRequest."""
    timeout_s = None
    if len(timeout) > _LONGEST_VALUE or len(priority) > _LONGEST_VALUE:
        raise BadRequest(f"{_shown(TIMEOUT)} and {_shown(PRIORITY)} take at most {_LONGEST_VALUE} characters")
    if timeout:
        try:
            timeout_s = parse_duration(timeout.decode("latin-1"), _shown(TIMEOUT))
        except ContractError as error:
            raise BadRequest(str(error)) from None
    return HeadTerms(timeout_s, priority.decode("latin-1"), client)


def head_priority(head: HeadTerms, classes: Classes, model: str) -> int:
    """Of the head alone. Raises BadRequest when the model has no such class."""
    return read_priority(head.priority, classes, f"model {model}: header {_shown(PRIORITY)}") if head.priority else 0


def read_priority(value: object, classes: Classes, what: str) -> int:
    """A class by its number or name. Raises BadRequest, starting with `what`, when there is no such class."""
    found = classes.priority(str(value)) if type(value) in (int, str) else None
    if found is None:
        raise BadRequest(
            f"{what} is {str(value)[:_LONGEST_VALUE]!r}; the classes are {classes}, the most urgent first, and 0 is {classes.default}"
        )
    return found


def together(head: HeadTerms, priority: int, body: Terms) -> Terms:
    """What counts of head (with its `priority`) and body: the shorter time and the less urgent class, so that whatever stands
    before this server can hold its clients down by headers."""
    timeouts = [timeout_s for timeout_s in (head.timeout_s, body.timeout_s) if timeout_s is not None]
    return Terms(min(timeouts, default=None), max(priority, body.priority))


def says_priority(body: bytes | memoryview, header_length: int | None) -> bool:
    """Whether an infer body may name a class, so that it must be read before it can be refused. A key written with escapes is
    overlooked: such a request may be refused as one of the default class would be."""
    return _find_priority(body, 0, len(body) if header_length is None else header_length) is not None


def _shown(header: bytes) -> str:
    return header.decode().title()
