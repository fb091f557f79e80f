"""How much of a difference between two rates of one model is chance, as far as a result tells. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

LEAST = 0.03
"""A search ends when the highest rate that holds and the lowest that does not are this near: no rate is known better."""

_NEARLY = 0.001
"""Files whose sizes differ by no more than this share, and whose answers are the original's to the last bit, are nearly the same."""

_TERMS = ("backend", "max_rows", "mixes")

Version = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Twins:
    """Two versions between which nothing differs that could matter. `exact`: the same bytes; else nearly so. `rate` and `closed_loop`:
    the higher rate ÷ the lower, less 1; None where one was not searched for."""

    keys: tuple[str, str]
    exact: bool
    rate: float | None
    closed_loop: float

    @property
    def told(self) -> str:
        """In a sentence without its end."""
        alike = "are the same file" if self.exact else "are nearly the same file (sizes within 0.1 %, the same answers)"
        chance = "chance" if self.exact else "most likely chance"
        rate = "" if self.rate is None else f"{self.rate:.1%} in the rate within the objective, "
        return f"{' and '.join(self.keys)} {alike}: what differs between them is {chance}, {rate}{self.closed_loop:.1%} in the closed loop"


def twins(versions: Mapping[str, Version]) -> list[Twins]:
    """Every pair that is served by the same library on the same terms."""
    return [
        Twins((one, other), exact, _apart(versions[one]["rate"], versions[other]["rate"]), _of_closed_loops(versions[one], versions[other]))
        for one, other in combinations(versions, 2)
        if (exact := _same(versions[one], versions[other])) or _near(versions[one], versions[other])
    ]  # fmt: skip


def noise(versions: Mapping[str, Version], keys: Sequence[str]) -> float:
    """The share by which the rates of `keys` may differ by chance: as much as versions of one file did, as a search of one of them fell
    from its short tries to its long one, or as a search leaves open."""
    apart = [one.rate for one in twins(versions) if one.rate is not None]
    return max([LEAST, *apart, *(fell(versions[key]) for key in keys)])


def fell(version: Version) -> float:
    """How far the highest rate that held in a short try was above the one that held in the long try that confirms, in shares of that."""
    found = []
    for search in version["capacity"]:
        held = [one["rate"] for one in search["tries"] if one["decision"] == "holds" and one["kept_up"]]
        if held and search["rate"]:
            found.append(max(held) / search["rate"] - 1)
    return max(found, default=0.0)


def _same(one: Version, other: Version) -> bool:
    return _alike(one, other) and one["sha256"] == other["sha256"]


def _near(one: Version, other: Version) -> bool:
    exact = all(version["quality"]["agreement"]["worst_cosine"] == 1.0 for version in (one, other))
    return _alike(one, other) and exact and abs(one["bytes"] - other["bytes"]) <= _NEARLY * one["bytes"]


def _alike(one: Version, other: Version) -> bool:
    return all(one[term] == other[term] for term in _TERMS)


def _of_closed_loops(one: Version, other: Version) -> float:
    """By the median of what each did beside the plain export in the same round."""
    return _apart(one["closed_loop_ratio"], other["closed_loop_ratio"]) or 0.0


def _apart(one: float | None, other: float | None) -> float | None:
    return max(one, other) / min(one, other) - 1 if one and other else None
