"""What a transform lets its caller set: declared once, read strictly. Knows no transform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimizer.errors import OptimizeError


@dataclass(frozen=True, slots=True)
class OneOf:
    """A setting with a few values."""

    name: str
    default: str | int
    values: tuple[str | int, ...]
    means: str

    @property
    def takes(self) -> str:
        """Its values, in words."""
        return f"one of {', '.join(str(value) for value in self.values)}"

    def allows(self, value: object) -> bool:
        """Whether it is one of them; True is not 1."""
        return not isinstance(value, bool) and value in self.values


@dataclass(frozen=True, slots=True)
class Between:
    """A setting that is a number, ends included."""

    name: str
    default: float
    least: float
    greatest: float
    means: str

    @property
    def takes(self) -> str:
        """Its values, in words."""
        return f"a number from {self.least:g} to {self.greatest:g}"

    def allows(self, value: object) -> bool:
        """Whether it is a number in between."""
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.least <= value <= self.greatest


Option = OneOf | Between


def settle(transform: str, known: Sequence[Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """All options by name: the given ones, and the defaults of the others.

    Raises OptimizeError for an option that `transform` does not know, or for a value that it does not take.
    """
    unknown = sorted(set(given) - {option.name for option in known})
    if unknown:
        names = ", ".join(option.name for option in known) or "none"
        raise OptimizeError(f"{transform}: unknown option {unknown[0]!r}; its options are: {names}")
    for option in known:
        if option.name in given and not option.allows(given[option.name]):
            raise OptimizeError(f"{transform}: option {option.name} is {given[option.name]!r}; give {option.takes}")
    return {option.name: given.get(option.name, option.default) for option in known}
