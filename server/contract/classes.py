"""Classes of requests: who goes first, and within which time. What people write in model.toml, checked; no reading of files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from server.contract.errors import ContractError

MOST_CLASSES = 8
"""Each but the most urgent has a floor of a tenth of the rows: more classes would leave little to go by urgency."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class ServiceClass:
    """One class. `slo_s`: answers are wanted within this time. `is_own`: it says so itself, and has not just the model's."""

    name: str
    slo_s: float
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class Classes:
    """The most urgent first: the first has priority 1. `default`: the priority of requests that give none, or 0."""

    all: tuple[ServiceClass, ...]
    default: int

    def __str__(self) -> str:
        return ", ".join(f"{number} ({one.name})" for number, one in enumerate(self.all, 1))

    def of(self, priority: int) -> ServiceClass:
        """0 is the default."""
        return self.all[(priority or self.default) - 1]

    def urgency(self, priority: int) -> int:
        """For the scheduler, which compares models too: 0 for the default of each of them, below it for what is more urgent."""
        return priority - self.default if priority else 0

    def priority(self, wanted: str) -> int | None:
        """By the name of a class, or its number in digits; None when there is no such class."""
        if wanted.isascii() and wanted.isdigit():
            number = int(wanted) if len(wanted) < 4 else MOST_CLASSES + 1
            return number if number <= len(self.all) else None
        return next((number for number, one in enumerate(self.all, 1) if one.name == wanted), None)

    @property
    def longest_slo_s(self) -> float:
        return max(one.slo_s for one in self.all)


def usual_classes(slo_s: float) -> Classes:
    """Those of a model that declares none."""
    return Classes(tuple(ServiceClass(name, slo_s) for name in ("high", "normal", "low")), 2)


def check_classes(classes: Sequence[ServiceClass], where: str) -> None:
    """Raises ContractError for names that clients could not tell apart, and for too many classes."""
    names = [one.name for one in classes]
    if not 1 <= len(names) <= MOST_CLASSES:
        raise ContractError(
            f"{where}: {len(names)} classes; 1 to {MOST_CLASSES} are possible, or none at all for the usual three"
        )
    for place, name in enumerate(names):
        if not _NAME.fullmatch(name):
            raise ContractError(
                f"{where}: {name!r} is no name for a class; write a letter and up to 31 more letters, digits, '-' or '_'"
            )
        if name in names[:place]:
            raise ContractError(f"{where}: two classes are called {name!r}; give each a name of its own")
