"""profile.json: what was measured of a version on one device, a Profile for each placement; and which of them suits an SLO."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from server.contract.device import Device
from server.contract.durations import format_duration
from server.contract.errors import ContractError
from server.contract.fields import Fields, check_schema
from server.contract.profile import Cell, Placement, Profile
from server.contract.text import SCHEMA as TEXT_SCHEMA
from server.contract.text import TextCost
from server.contract.wants import Wants

SCHEMA = 3
"""Of files with more than one placement. One alone is written as schema 1, or TEXT_SCHEMA where there is a text section, which
servers before could read too."""

CARD_SCHEMA = 4
"""Of files that were measured on a card, with as many placements as there are."""

MISSED = 2.3
"""Of requests that come at random, a hundredth is late at the load x ÷ (x + MISSED), when x rows can be served within the slack
that the SLO leaves. From the tail of the queue with constant service times, exp(-2·(1 - load)·x), put so that it holds at any x."""

ALIKE = 0.03
"""Placements whose rates differ by less than this are equally good: measurements are no better."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The profile to serve by, at a placement that may be another one where model.toml says so; `why`, in words."""

    profile: Profile
    placement: Placement
    why: str


@dataclass(frozen=True, slots=True)
class Profiles:
    """At least one profile; all of them of the same device and text, each of another placement. Raises ContractError otherwise."""

    profiles: tuple[Profile, ...]

    def __post_init__(self) -> None:
        if not self.profiles:
            raise ContractError("no placement was measured; measure again")
        if len({profile.placement for profile in self.profiles}) < len(self.profiles):
            raise ContractError("a placement may be there only once; measure again")
        if any((profile.device, profile.text) != (self.device, self.text) for profile in self.profiles):
            raise ContractError("all placements are of one device and one tokenizer; measure again")

    @property
    def device(self) -> Device:
        """Where all of them were measured."""
        return self.profiles[0].device

    @property
    def text(self) -> TextCost | None:
        """What the tokenizer costs, where the version takes text."""
        return self.profiles[0].text

    def with_text(self, text: TextCost) -> Profiles:
        """The same with the tokenizer's cost."""
        return Profiles(tuple(replace(profile, text=text) for profile in self.profiles))

    def choose(self, wants: Wants, max_rows: int, cores: int) -> Chosen:
        """The placement that sustains the highest rate within the SLO, on a machine with so many cores; those alike: the one
        with fewest threads, then with fewest instances, which is the quicker one."""
        max_rows = min(wants.max_rows or max_rows, max_rows)
        possible = self._possible(wants, cores)
        shares = shares_in_time(possible, wants.slo_s, max_rows)
        share = {one.placement: value for one, value in zip(possible, shares, strict=True)}
        least = max(share.values()) - ALIKE
        best = min((one for one in possible if share[one.placement] >= least), key=_smallness)
        asked = Placement(wants.instances or best.placement.instances, wants.threads or best.placement.threads)
        if asked != best.placement:
            return Chosen(best, asked, f"{asked} by model.toml, which was not measured: costs are those of {best.placement}")
        return Chosen(best, asked, _why(best.placement, share, wants, self, cores))

    def _possible(self, wants: Wants, cores: int) -> list[Profile]:
        """Those that do what model.toml says and do not need more cores than there are, as far as there are such."""
        asked = [
            one for one in self.profiles
            if wants.instances in (None, one.placement.instances) and wants.threads in (None, one.placement.threads)
        ]  # fmt: skip
        if asked and (wants.instances or wants.threads):
            return asked
        return [one for one in self.profiles if one.placement.cores <= cores] or [min(self.profiles, key=_smallness)]

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        grids = [{"placement": asdict(one.placement), "cells": [asdict(cell) for cell in one.cells]} for one in self.profiles]
        made: dict[str, Any] = {"schema": 1 if self.text is None else TEXT_SCHEMA, "device": self.device.to_json()}
        if self.device.accelerator is not None:
            made |= {"schema": CARD_SCHEMA, "profiles": grids}
        else:
            made |= grids[0] if len(grids) == 1 else {"schema": SCHEMA, "profiles": grids}
        return made | {"text": self.text.to_json()} if self.text else made

    @staticmethod
    def from_json(data: object, where: str) -> Profiles:
        """Raises ContractError for an unknown schema, a missing field or a grid with holes."""
        fields = Fields(data, where)
        schema = check_schema(fields, CARD_SCHEMA)
        grid = ("profiles",) if schema >= SCHEMA else ("placement", "cells")
        fields.only(("schema", "device", *grid, *(("text",) if schema >= TEXT_SCHEMA else ())))
        device = Device.from_json(fields.child("device"))
        text = TextCost.from_json(fields.child("text")) if fields.has("text") else None
        grids = [fields]
        if schema >= SCHEMA:
            grids = fields.children("profiles")
            for one in grids:
                one.only(("placement", "cells"))
        try:
            return Profiles(tuple(_read(one, device, text) for one in grids))
        except ContractError as error:
            raise error if str(error).startswith(where) else ContractError(f"{where}: {error}") from None


def in_time_rate(profile: Profile, slo_s: float, max_rows: int, length: int = 0) -> float:
    """About the highest rate of rows that come at random of which 99 % are answered within the SLO, all instances together.

    A request may have to wait for a running batch (a part of it with several instances, which end in turn) and for its own;
    what is left of the SLO is slack, in which the queue may grow. Counts the batch size at which slack and rate together
    give most. 0.0 when even one row alone leaves no slack.
    """
    best, instances = 0.0, profile.placement.instances
    for rows in range(1, max_rows + 1):
        slack_s = slo_s - profile.predict_p99(rows, length) * (1 + 1 / instances)
        if slack_s <= 0:
            break
        rate = instances * rows / profile.predict(rows, length)
        best = max(best, rate * rate * slack_s / (rate * slack_s + MISSED))
    return best


def mean_in_time_rate(profile: Profile, slo_s: float, max_rows: int) -> float:
    """in_time_rate averaged over the measured lengths, in rows per second: one figure for a profile."""
    lengths = profile.measured_lengths
    return sum(in_time_rate(profile, slo_s, max_rows, length) for length in lengths) / len(lengths)


def shares_in_time(profiles: Sequence[Profile], slo_s: float, max_rows: int, most: float = math.inf) -> list[float]:
    """Each one's rate within the SLO as a share of the best one's, averaged over the lengths of the first: which of them are asked
    for is not known. Where none keeps the SLO, the time of one row decides instead. The profiles may be of placements, or of
    different versions of a model. `most`: rows per second past which more is no gain."""
    shares = [0.0] * len(profiles)
    lengths = profiles[0].measured_lengths
    for length in lengths:
        rates = [min(in_time_rate(one, slo_s, max_rows, length), most) for one in profiles]
        if not any(rates):
            rates = [1 / one.predict(1, length) for one in profiles]
        shares = [share + rate / max(rates) / len(lengths) for share, rate in zip(shares, rates, strict=True)]
    return shares


def _why(chosen: Placement, share: dict[Placement, float], wants: Wants, all_: Profiles, cores: int) -> str:
    if wants.instances or wants.threads:
        return f"{chosen} by model.toml"
    too_large = [str(one.placement) for one in all_.profiles if one.placement.cores > cores]
    left_out = f"; {', '.join(too_large)} would need more than {cores} cores" if too_large else ""
    if len(share) == 1:
        return f"{chosen} is the only one that was measured{left_out}" if not too_large else f"{chosen}{left_out}"
    others = ", ".join(f"{one} {value / share[chosen]:.2f} of that" for one, value in share.items() if one != chosen)
    return f"{chosen} by the rate within {format_duration(wants.slo_s)}; {others}{left_out}"


def _smallness(profile: Profile) -> tuple[int, int]:
    return profile.placement.cores, profile.placement.instances


def _read(fields: Fields, device: Device, text: TextCost | None) -> Profile:
    place = fields.child("placement")
    place.only(Placement.__slots__)
    placement = Placement(place.integer("instances", 1), place.integer("threads", 1))
    cells = tuple(Cell.from_json(cell) for cell in fields.children("cells"))
    return Profile(device, placement, cells, text)
