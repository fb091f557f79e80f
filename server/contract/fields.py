"""Strict reading of decoded JSON and TOML: every error names the file and the field. No schema lives here."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from server.contract.errors import ContractError

T = TypeVar("T")


class Fields:
    """Typed access to one JSON object or TOML table.

    `where` is the human name of the object ("digits/1/manifest.json: inputs[0]") that starts every error.
    All getters raise ContractError.
    """

    __slots__ = ("_data", "_where")

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, Mapping):
            raise ContractError(f"{where}: expected an object, found {_kind(data)}")
        self._data: Mapping[str, Any] = data
        self._where = where

    @property
    def where(self) -> str:
        """The human name of this object, as used in errors."""
        return self._where

    def only(self, known: Collection[str]) -> None:
        """Refuse keys outside `known`, naming the ones that are allowed."""
        unknown = sorted(set(self._data) - set(known))
        if unknown:
            raise ContractError(f"{self._where}: unknown field {unknown[0]!r}; the known fields are {', '.join(sorted(known))}")

    def has(self, key: str) -> bool:
        """True when `key` is present and not null."""
        return self._data.get(key) is not None

    def text(self, key: str) -> str:
        """A non-empty string."""
        value = self._get(key, str)
        if not value:
            raise self.wrong(key, "must not be empty")
        return value

    def integer(self, key: str, at_least: int = 0) -> int:
        """An integer not below `at_least`."""
        value = self._get(key, int)
        if value < at_least:
            raise self.wrong(key, f"must be at least {at_least}, found {value}")
        return value

    def number(self, key: str, at_least: float = 0.0) -> float:
        """A finite number not below `at_least`."""
        value = self._get(key, (int, float))
        if not at_least <= value <= sys.float_info.max:
            raise self.wrong(key, f"must be a finite number of at least {at_least:g}, found {value}")
        return float(value)

    def flag(self, key: str) -> bool:
        """True or false."""
        return self._get(key, bool)

    def items(self, key: str) -> list[Any]:
        """A list of anything."""
        return self._get(key, list)

    def child(self, key: str) -> Fields:
        """A nested object."""
        return Fields(self._get(key, Mapping), f"{self._where}: {key}")

    def children(self, key: str) -> list[Fields]:
        """A list of nested objects."""
        return [Fields(item, f"{self._where}: {key}[{n}]") for n, item in enumerate(self.items(key))]

    def mapping(self, key: str) -> dict[str, Any]:
        """A nested object as a plain dict."""
        return dict(self._get(key, Mapping))

    def wrong(self, key: str, why: str) -> ContractError:
        """The error for a field whose value breaks a rule."""
        return ContractError(f"{self._where}: field {key!r} {why}")

    def _get(self, key: str, kind: type[T] | tuple[type[T], ...]) -> T:
        if key not in self._data:
            raise ContractError(f"{self._where}: field {key!r} is missing")
        value = self._data[key]
        is_bool = isinstance(value, bool)
        if not isinstance(value, kind) or (is_bool and kind is not bool):
            raise self.wrong(key, f"must be {_KINDS[kind]}, found {_kind(value)}")
        return value


_KINDS: dict[object, str] = {
    str: "a string in quotes", int: "an integer", (int, float): "a number", bool: "true or false", list: "a list",
    Mapping: "an object",
}  # fmt: skip


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object" if isinstance(value, Mapping) else type(value).__name__)


def check_schema(fields: Fields, known: int) -> int:
    """The schema of a file. Raises ContractError for a newer one, before any other field is read."""
    found = fields.integer("schema", 1)
    if found > known:
        raise ContractError(
            f"{fields.where}: schema {found} is from a newer ferry (this one reads up to {known}); upgrade ferry "
            "or publish the model again with this version"
        )
    return found
