"""What is logged, by kind, changeable while the server runs: V2's logging extension over the standard library's levels."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from server.errors import BadRequest, Unsupported

_KINDS = {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}
_VERBOSE = "log_verbose_level"
_ELSEWHERE = ("log_file", "log_format")
_MOST_VERBOSE = 2**31 - 1


class LogLevels:
    """Owns which records pass the handlers of one logger. Until the first change its level alone decides, as set at start."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        level = logger.getEffectiveLevel()
        self._settings: dict[str, bool | int] = {kind: level <= least for kind, least in _KINDS.items()}
        self._settings[_VERBOSE] = int(level <= logging.DEBUG)

    def to_json(self) -> dict[str, bool | int]:
        """The settings that have an effect here."""
        return dict(self._settings)

    def change(self, wanted: Mapping[str, object]) -> None:
        """Apply all of `wanted` or, when one of them is wrong, none. Raises BadRequest or Unsupported."""
        changed: dict[str, bool | int] = {}
        for name, value in wanted.items():
            changed[name] = _checked(name, value)
        self._settings |= changed
        least = logging.DEBUG if self._settings[_VERBOSE] else logging.CRITICAL
        least = min([least, *(level for kind, level in _KINDS.items() if self._settings[kind])])
        self._logger.setLevel(least)
        for handler in self._logger.handlers:
            if self._passes not in handler.filters:
                handler.addFilter(self._passes)

    def _passes(self, record: logging.LogRecord) -> bool:
        """Kinds are on or off each by itself, which a level cannot say. CRITICAL counts as an error."""
        for kind in ("log_error", "log_warning", "log_info"):
            if record.levelno >= _KINDS[kind]:
                return bool(self._settings[kind])
        return bool(self._settings[_VERBOSE])


def _checked(name: str, value: object) -> bool | int:
    if name in _KINDS:
        if not isinstance(value, bool):
            raise BadRequest(f"{name!r} must be true or false")
        return value
    if name == _VERBOSE:
        if type(value) is not int or not 0 <= value <= _MOST_VERBOSE:
            raise BadRequest(f"{name!r} must be 0, or 1 and more for everything")
        return value
    if name in _ELSEWHERE:
        raise Unsupported(f"{name!r} cannot be changed: the log goes to standard error in one format")
    raise BadRequest(f"unknown log setting {name!r}; there are {', '.join([*_KINDS, _VERBOSE])}")
