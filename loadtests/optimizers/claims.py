"""What is claimed of `ferry optimize` beside another tool: its rate within the objective is no lower, at quality that passes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.optimizers.noise import noise
from loadtests.verdicts import Side, Verdict

ALIKE = 0.97
"""Within 3 % ferry's own ladder takes two versions for alike, and the simpler one."""

PLAIN, FERRY = "plain export", "ferry optimize"

OPENVINO, OPENVINO_LABEL = "openvino", "OpenVINO"
"""A rival that is no tool: the plain export on a library that ferry may choose. What ferry gains beyond it is the optimizer's."""

Versions = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Beside(Verdict):
    """A verdict on two rates that were searched for.

    `limited`: the load generator and not a server ended a search, so that the rate is a least one, and the true ratio may be on the other
    side of the bound; then the claim does not hold. `noise`: the share by which the rates may differ by chance.
    """

    limited: bool = False
    noise: float = 0.0

    @property
    def holds(self) -> bool:
        return not self.limited and super(Beside, self).holds  # by name: with slots it is another class than the method's

    @property
    def told(self) -> str:
        told = "limited: proves little" if self.limited else super(Beside, self).told
        return f"{told}, inside the noise of {self.noise:.0%}" if self._is_noise else told

    @property
    def _is_noise(self) -> bool:
        return bool(self.found) and max(self.found or 0.0, 1 / (self.found or 1.0)) - 1 <= self.noise


def claims(models: Mapping[str, Any], tools: Mapping[str, str]) -> list[Verdict]:
    """For each model that ferry's quality passes, and for each tool (name → label) beside the fastest of its versions whose quality does;
    none beside a tool that has no such version."""
    found: list[Verdict] = []
    for model, told in models.items():
        versions = told["versions"]
        failings = len(versions[FERRY]["quality"]["failings"])
        found.append(Verdict(f"{model}: what fails of ferry's quality", float(failings), Side.AT_MOST, 0.0))
        for tool, label in tools.items():
            best = best_of(versions, tool)
            if best is not None:
                found.append(_beside(f"{model}: rate within the objective / {label}'s best ({best})", versions, tool, best))
    return found


def judged(content: Mapping[str, Any]) -> list[Verdict]:
    """A result's claims by the rules of today, whatever the file says that held when it was written."""
    labels = {name: tool["label"] for name, tool in content["tools"].items()}
    return claims(content["models"], {OPENVINO: OPENVINO_LABEL, **labels})


def best_of(versions: Versions, tool: str) -> str | None:
    """The fastest of a tool's versions whose quality passes; one whose rate nobody searched for is slower than all others."""
    return max(_good(versions, tool), key=lambda key: float(versions[key]["rate"] or 0.0), default=None)


def _beside(figure: str, versions: Versions, tool: str, best: str) -> Beside:
    """A limited rate is a least one. So where the claim holds it is doubtful if a rival's rate may be higher, any of the tool's, as another
    one may be the best then; where it misses, if ferry's own may be."""
    ours, theirs = versions[FERRY]["rate"], versions[best]["rate"]
    ratio = ours / theirs if theirs and ours is not None else None
    doubted = _good(versions, tool) if ratio is not None and ratio >= ALIKE else [FERRY]
    limited = ratio is not None and any(versions[key]["limited"] and versions[key]["rate"] is not None for key in doubted)
    return Beside(figure, ratio, Side.AT_LEAST, ALIKE, limited=limited, noise=noise(versions, (FERRY, best)))


def _good(versions: Versions, tool: str) -> Sequence[str]:
    return [key for key, one in versions.items() if one["tool"] == tool and not one["quality"]["failings"]]
