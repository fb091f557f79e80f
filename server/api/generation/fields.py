"""Fields of a JSON body, read strictly: a wrong one is refused by name, in OpenAI's way. `null` counts as not given."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import orjson

from server.api.openai_errors import BadParameter
from server.errors import BadRequest

_MOST_SHOWN = 80


def read_object(body: bytes) -> dict[str, Any]:
    """Raises BadRequest."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadRequest("the body must be a JSON object")
    return fields


class BodyFields:
    """All methods raise BadParameter, naming the field; `prefix` goes before its name ("stream_options.")."""

    def __init__(self, fields: Mapping[str, Any], prefix: str = "") -> None:
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._prefix = prefix

    def only(self, known: Collection[str], refused: Mapping[str, str]) -> None:
        """Refuse the fields of `refused`, which says why, and unknown ones."""
        for name in self._fields:
            if name in refused:
                raise self.wrong(name, f"is not supported: {refused[name]}", "unsupported_parameter")
            if name not in known:
                raise self.wrong(name, f"is not known; the fields are {', '.join(sorted(known))}", "unknown_parameter")

    def has(self, name: str) -> bool:
        return name in self._fields

    def value(self, name: str) -> Any:
        """As it came; None when it is not there."""
        return self._fields.get(name)

    def wrong(self, name: str, why: str, code: str | None = None) -> BadParameter:
        """`why` goes on after the name."""
        shown = name[:_MOST_SHOWN]
        return BadParameter(self._prefix + shown, f"'{self._prefix}{shown}' {why}", code)

    def text(self, name: str, default: str = "") -> str:
        value = self._fields.get(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, f"must be a string, found {shown(value)}")
        return value

    def flag(self, name: str) -> bool:
        """False when it is not there."""
        value = self._fields.get(name, False)
        if not isinstance(value, bool):
            raise self.wrong(name, f"must be true or false, found {shown(value)}")
        return value

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        value = self._fields.get(name, default)
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(name, f"must be a whole number from {least} to {most}, found {shown(value)}")
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        value = self._fields.get(name, default)
        if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
            raise self.wrong(name, f"must be a number from {least:g} to {most:g}, found {shown(value)}")
        return float(value)

    def child(self, name: str) -> BodyFields:
        """The fields of an object; of none when it is not there."""
        value = self._fields.get(name, {})
        if not isinstance(value, dict):
            raise self.wrong(name, f"must be an object, found {shown(value)}")
        return BodyFields(value, f"{self._prefix}{name}.")


def shown(value: object) -> str:
    """A value for an error message, cut."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + " …"
