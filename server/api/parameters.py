"""The parameters of a request: which have a meaning, which are refused, which are accepted without one."""

from __future__ import annotations

from collections.abc import Mapping

from server.api.terms import Terms, read_priority
from server.contract.classes import Classes
from server.errors import BadRequest, Unsupported

_SCALARS = (str, int, float, bool)
_MOST = 2**64 - 1


def read_terms(parameters: Mapping[str, object], classes: Classes, model: str) -> Terms:
    """The client's time limit and class; every other parameter is checked too.

    `timeout` is in microseconds and counts the whole request; 0 means none. `priority` is a class by its number, 1 the most
    urgent, or its name; 0 means the default. Custom parameters must be scalars; a model here sees its tensors only.
    Raises BadRequest, and Unsupported for sequences.
    """
    timeout = priority = 0
    for name, value in parameters.items():
        if name == "timeout":
            timeout = _count(name, value, "a number of microseconds that is not negative")
        elif name == "priority":
            priority = read_priority(value, classes, f"model {model}: parameter 'priority'")
        elif name == "sequence_id":
            _check_no_sequence(value)
        elif name in ("sequence_start", "sequence_end"):
            _check_flag(name, value)
        elif name.startswith("triton_"):
            raise BadRequest(f"parameter {name!r}: names that start with 'triton_' are reserved")
        elif not isinstance(value, _SCALARS):
            raise BadRequest(f"parameter {name!r} must be a string, a number, true or false")
    return Terms(timeout * 1e-6 if timeout else None, priority)


def read_truncate(parameters: Mapping[str, object]) -> bool:
    """Whether texts with too many tokens are to be cut; without the parameter they are refused. Raises BadRequest."""
    value = parameters.get("truncate", False)
    _check_flag("truncate", value)
    return value is True


def _count(name: str, value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:
        raise BadRequest(f"parameter {name!r} must be {what}, found {value!r}")
    return value


def _check_no_sequence(value: object) -> None:
    """0 and "" mean that the request belongs to no sequence."""
    if type(value) not in (int, str):
        raise BadRequest("parameter 'sequence_id' must be a number or a string")
    if value:
        raise Unsupported("parameter 'sequence_id': no model here keeps state between requests; leave it out")


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise BadRequest(f"parameter {name!r} must be true or false")
