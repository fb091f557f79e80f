"""profile.json: round trip and refusals, old schemas too; and which placement is chosen for an SLO."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from server.contract.accelerator import Accelerator
from server.contract.device import Device
from server.contract.errors import ContractError
from server.contract.profile import Placement, Profile
from server.contract.profiles import ALIKE, Profiles, in_time_rate, mean_in_time_rate, shares_in_time
from server.contract.text import TextCost
from server.contract.wants import Wants
from server.core.costs import HAND_OFF_S, CostTable
from server.simulation.clients import ask, poisson_times
from server.simulation.laws import linear_profile, steady
from server.simulation.station import Served, serve
from tests.server.contract.examples import PROFILE_JSON, cell, changed

WHERE = "demo/1/profile.json"
WIDE, MANY, ONE = Placement(1, 2), Placement(2, 1), Placement(1, 1)
CELLS = PROFILE_JSON["cells"]
SEVERAL_JSON = {
    "schema": 3,
    "device": PROFILE_JSON["device"],
    "profiles": [
        {"placement": {"instances": 2, "threads": 1}, "cells": CELLS},
        {"placement": {"instances": 1, "threads": 2}, "cells": CELLS},
    ],
}
TEXT = {"text_s": 2e-5, "byte_s": 2e-7, "token_s": 1e-6, "samples": 5}


def at(placement: Placement, alpha_ms: float, beta_ms: float, lengths: tuple[int, ...] = (0,)) -> Profile:
    """l(rows, length) = beta + alpha · rows · length, at this placement."""
    return replace(linear_profile(alpha_ms * 1e-3, beta_ms * 1e-3, lengths=lengths), placement=placement)


def test_one_placement_is_written_as_older_servers_read_it() -> None:
    profiles = Profiles.from_json(PROFILE_JSON, WHERE)
    assert profiles.to_json() == PROFILE_JSON
    assert Profiles.from_json(profiles.to_json(), WHERE) == profiles
    assert profiles.device == Device("A chip", 2, "onnxruntime 1.0")
    (profile,) = profiles.profiles
    assert (str(profile.placement), profile.placement.cores) == ("2x1", 2)
    assert (profile.measured_rows, profile.measured_lengths) == ((1, 8), (1, 32))
    assert profiles.text is None


def test_with_text_it_has_the_schema_of_that() -> None:
    data = {**PROFILE_JSON, "schema": 2, "text": TEXT}
    assert Profiles.from_json(data, WHERE).to_json() == data


@pytest.mark.parametrize("text", [{}, {"text": TEXT}])
def test_several_placements_come_back_in_order(text: dict[str, object]) -> None:
    data = SEVERAL_JSON | text
    profiles = Profiles.from_json(data, WHERE)
    assert [str(one.placement) for one in profiles.profiles] == ["2x1", "1x2"]
    assert profiles.to_json() == data
    assert {one.text for one in profiles.profiles} == {profiles.text}
    assert (profiles.text is not None) == bool(text)


CARD = {"name": "A card", "compute_capability": "9.0", "driver": "570.1", "cuda": "12.8"}


def test_of_a_card_it_has_a_schema_that_older_servers_refuse_by_its_number() -> None:
    device = {**PROFILE_JSON["device"], "accelerator": CARD}
    data = {"schema": 4, "device": device, "profiles": [{"placement": {"instances": 2, "threads": 1}, "cells": CELLS}]}
    profiles = Profiles.from_json(data, WHERE)
    assert profiles.to_json() == data
    assert profiles.device.accelerator == Accelerator(**CARD)


def test_text_is_added_to_all() -> None:
    cost = TextCost(1e-5, 1e-7, 1e-6, 3)
    profiles = Profiles.from_json(SEVERAL_JSON, WHERE).with_text(cost)
    assert [one.text for one in profiles.profiles] == [cost, cost]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 9, "schema 9 is from a newer ferry (this one reads up to 4); upgrade ferry or publish"),
        ("cells", [], "cells must form a full grid of rows x length, each cell once; measure again"),
        ("cells", [cell(1, 1), cell(8, 1), cell(1, 32)], "cells must form a full grid"),
        ("cells", [cell(1, 1), cell(1, 1)], "cells must form a full grid"),
        ("cells.0.p50_s", 0, "cells[0]: field 'p50_s' must be positive and p50 <= p95 <= p99, found 0.0,"),
        ("cells.0.p95_s", 9.0, "must be positive and p50 <= p95 <= p99"),
        ("cells.0.p99_s", float("inf"), "cells[0]: field 'p99_s' must be a finite number of at least 0, found inf"),
        ("cells.0.rows", 0, "cells[0]: field 'rows' must be at least 1"),
        ("cells.0.mean_s", 1.0, "cells[0]: unknown field 'mean_s'"),
        ("placement.instances", 0, "placement: field 'instances' must be at least 1, found 0"),
        ("placement.cpus", 1, "placement: unknown field 'cpus'; the known fields are instances, threads"),
        ("device.cores", 0, "device: field 'cores' must be at least 1"),
        ("unit", "s", "unknown field 'unit'"),
    ],
)
def test_refuses_what_is_no_profile(path: str, value: object, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        Profiles.from_json(changed(PROFILE_JSON, path, value), WHERE)
    assert str(caught.value).startswith(WHERE)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("profiles", [], ": no placement was measured; measure again"),
        ("profiles.1", {"placement": {"instances": 2, "threads": 1}, "cells": CELLS}, ": a placement may be there only once"),
        ("profiles.1.cells", [], ": cells must form a full grid"),
        ("profiles.1.cells", [cell(0)], ": profiles[1]: cells[0]: field 'p50_s' must be positive"),
        ("profiles.0.device", {}, ": profiles[0]: unknown field 'device'; the known fields are cells, placement"),
        ("cells", CELLS, ": unknown field 'cells'; the known fields are device, profiles, schema, text"),
        ("schema", 2, ": unknown field 'profiles'; the known fields are cells, device, placement, schema, text"),
    ],
)
def test_refuses_several_that_are_none(path: str, value: object, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        Profiles.from_json(changed(SEVERAL_JSON, path, value), WHERE)
    assert str(caught.value).startswith(WHERE + message)


def test_refuses_placements_of_different_machines() -> None:
    mine, theirs = at(ONE, 1, 4), replace(at(WIDE, 1, 4), device=Device("another", 2, "virtual 1"))
    with pytest.raises(ContractError, match="all placements are of one device"):
        Profiles((mine, theirs))


USUAL = Profiles((at(MANY, 10, 4.4), at(WIDE, 6, 2.4), at(ONE, 10, 4)))
"""Two instances have the higher rate, two threads are quicker: 14 ms or 8 ms for one row."""


@pytest.mark.parametrize(
    ("slo_ms", "chosen", "why"),
    [
        (20, "1x2", "1x2 by the rate within 20ms; 2x1 0.00 of that, 1x1 0.00 of that"),
        (28, "1x2", "1x2 by the rate within 28ms; 2x1 0.89 of that, 1x1 0.00 of that"),
        (500, "2x1", "2x1 by the rate within 500ms; 1x2 0.8"),
        (3, "1x2", "1x2 by the rate within 3ms; 2x1 0.5"),  # none keeps it: the quickest
    ],
)
def test_a_tight_slo_takes_the_quicker_placement_a_loose_one_that_with_the_higher_rate(
    slo_ms: int, chosen: str, why: str
) -> None:
    found = USUAL.choose(Wants(slo_ms / 1e3), 32, 2)
    assert (str(found.placement), found.profile.placement) == (chosen, found.placement)
    assert found.why.startswith(why)


def test_lengths_count_alike() -> None:
    """Two threads are quicker for long rows only, which are hopeless without them."""
    lengths = (1, 8, 64)
    wide, many = at(WIDE, 0.04, 3, lengths), at(MANY, 0.1, 2, lengths)
    assert str(Profiles((wide, many)).choose(Wants(1.0), 8, 2).placement) == "2x1"
    assert str(Profiles((wide, many)).choose(Wants(0.0122), 8, 2).placement) == "1x2"


def test_of_those_alike_the_smallest_is_chosen_then_the_quickest() -> None:
    almost = 1 - ALIKE / 2
    assert str(Profiles((at(MANY, 20, 8), at(ONE, 10 / almost, 4 / almost))).choose(Wants(1.0), 8, 2).placement) == "1x1"
    assert str(Profiles((at(MANY, 20, 8), at(WIDE, 10, 4))).choose(Wants(2.0), 8, 2).placement) == "1x2"


def test_what_needs_more_cores_than_there_are_is_not_chosen() -> None:
    found = USUAL.choose(Wants(0.5), 32, 1)
    assert (str(found.placement), found.why) == ("1x1", "1x1; 2x1, 1x2 would need more than 1 cores")
    pair = Profiles(USUAL.profiles[:2])
    assert str(pair.choose(Wants(0.5), 32, 1).placement) == "1x2", "something must be"
    fitting = Profiles((*USUAL.profiles, at(Placement(4, 1), 10, 4.6)))
    assert fitting.choose(Wants(0.5), 32, 2).why.endswith("; 4x1 would need more than 2 cores")


@pytest.mark.parametrize(
    ("wants", "placement", "measured", "why"),
    [
        (Wants(0.5, instances=1), "1x2", "1x2", "1x2 by model.toml"),
        (Wants(0.04, threads=1), "2x1", "2x1", "2x1 by model.toml"),
        (Wants(0.5, instances=1, threads=1), "1x1", "1x1", "1x1 by model.toml"),
        (Wants(0.5, instances=3), "3x1", "2x1", "3x1 by model.toml, which was not measured: costs are those of 2x1"),
    ],
)
def test_experts_are_obeyed(wants: Wants, placement: str, measured: str, why: str) -> None:
    found = USUAL.choose(wants, 32, 2)
    assert (str(found.placement), str(found.profile.placement), found.why) == (placement, measured, why)


def test_the_batch_limit_of_model_toml_counts() -> None:
    """Threads are worth less in batches of one."""
    profiles = Profiles((at(MANY, 1, 1), at(WIDE, 0.4, 1.2)))
    assert str(profiles.choose(Wants(0.1), 32, 2).placement) == "1x2"
    assert str(profiles.choose(Wants(0.1, max_rows=1), 32, 2).placement) == "2x1"


def test_the_only_one_is_chosen_and_says_so() -> None:
    found = Profiles((at(ONE, 1, 4),)).choose(Wants(0.1), 32, 2)
    assert (found.placement, found.why) == (ONE, "1x1 is the only one that was measured")


def test_profiles_of_different_versions_are_compared_like_placements() -> None:
    quick, slow, hopeless = at(ONE, 1, 4), at(ONE, 2, 8), at(ONE, 100, 400)
    shares = shares_in_time([slow, quick, hopeless], 0.1, 8)
    assert shares[1] == 1.0
    assert 0 < shares[0] < 0.6
    assert shares[2] == 0.0
    lengths = quick.measured_lengths
    rates = [in_time_rate(quick, 0.1, 8, length) for length in lengths]
    assert mean_in_time_rate(quick, 0.1, 8) == pytest.approx(sum(rates) / len(rates))


def test_nothing_is_in_time_when_one_row_leaves_no_slack() -> None:
    assert in_time_rate(at(ONE, 10, 4), 0.028, 32) == 0.0
    assert 0 < in_time_rate(at(ONE, 10, 4), 0.029, 32) < 10


def sustained(profile: Profile, slo_s: float) -> float:
    """The highest of some Poisson rates of which the scheduler answers 99 % in time, in virtual time."""
    costs = CostTable(profile, 32)
    peak = profile.peak_rate()

    def keeps(rate: float) -> bool:
        rnd = random.Random(1)
        requests = ask(poisson_times(rate, 1000, rnd), rnd, slo_s)
        return (
            serve(requests, Served(costs, instances=profile.placement.instances, truth=steady(0.02, rnd))).in_time_share()
            >= 0.99
        )

    return max([share * peak for share in (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9) if keeps(share * peak)], default=0.0)


@pytest.mark.parametrize("slo_in_rows_alone", [2, 5])
@pytest.mark.parametrize(("alpha_ms", "beta_ms"), [(1, 4), (1, 20), (4, 0.3)])
def test_the_choice_is_what_the_scheduler_itself_would_make(alpha_ms: float, beta_ms: float, slo_in_rows_alone: int) -> None:
    """The estimate against simulation. The chosen placement sustains nearly the rate of the best one."""
    slo_s = slo_in_rows_alone * ((alpha_ms + beta_ms) * 1e-3 + HAND_OFF_S)
    profiles = Profiles((at(MANY, 1.05 * alpha_ms, 1.05 * beta_ms), at(WIDE, 0.6 * alpha_ms, 0.6 * beta_ms)))
    rates = {one.placement: sustained(one, slo_s) for one in profiles.profiles}
    assert rates[profiles.choose(Wants(slo_s), 32, 2).placement] >= 0.85 * max(rates.values())
