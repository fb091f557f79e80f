"""How many machines a rate needs, by simulation of one of them: a load balancer that deals requests out at random leaves Poisson arrivals to each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from server.simulation.capacity import Capacity, Limit, capacity, lasts_s
from server.simulation.play import Played, Setting, Version, play
from server.simulation.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Size:
    """`machines` of `instances` each; `one`: what one such machine can take; `usual`: one of them at its share of the rate; `reserve`: by how
    much more the rate may grow until they are full, 0.25 = a quarter."""

    machines: int
    instances: int
    one: Capacity
    usual: Played
    reserve: float


def size(setting: Setting, traffic: Traffic, headroom: float, n_requests: int) -> Size | Capacity:
    """The fewest machines that keep the SLO for the traffic's rate and so much more. A Capacity of ALONE when no number of them can.

    Never more instances on a machine than its profile was measured with: they would share the same cores, and nobody has measured that.
    One machine with fewer of them is enough where it is.
    """
    version = next(one for one in setting.versions if one.key == traffic.model)
    most = min(version.placement.instances, version.profile.placement.instances)
    needed = 1.0 + headroom
    one = _capacity(setting, version, most, traffic, n_requests)
    if one.limit is Limit.ALONE:
        return one
    machines, instances = math.ceil(needed / one.factor), most
    while machines == 1 and instances > 1:
        fewer = _capacity(setting, version, instances - 1, traffic, n_requests)
        if fewer.factor < needed:
            break
        one, instances = fewer, instances - 1
    factor = 1 / machines
    chosen = _with_instances(setting, version, instances)
    usual = play(chosen, (traffic,), factor, lasts_s((traffic,), factor, n_requests))
    return Size(machines, instances, one, usual, one.factor * machines - 1)


def _capacity(setting: Setting, version: Version, instances: int, traffic: Traffic, n_requests: int) -> Capacity:
    return capacity(_with_instances(setting, version, instances), (traffic,), n_requests)


def _with_instances(setting: Setting, version: Version, instances: int) -> Setting:
    changed = replace(version, placement=replace(version.placement, instances=instances))
    versions: Sequence[Version] = [changed if one.key == version.key else one for one in setting.versions]
    return replace(setting, versions=versions)
