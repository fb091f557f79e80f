"""What `ferry simulate` is made of: drawn batch times, the wire, the event loop, figures, capacity and sizing. Exact by seed."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from server.contract.profile import Cell, Placement, Profile
from server.core.costs import HAND_OFF_S, CostTable
from server.core.types import Limits
from server.simulation.arrivals import Ramp, Shaped
from server.simulation.capacity import Capacity, Limit, capacity, lasts_s
from server.simulation.drawn import Drawn
from server.simulation.laws import DEVICE
from server.simulation.play import Played, play
from server.simulation.sizing import Size, size
from server.simulation.wire import HAND_OVER_S, JOIN_S, Wire, Work
from tests.sim.setting import ALPHA_S, BETA_S, FULL_S, KEY, MAX_ROWS, PEAK, setting, traffic, version

N = 500


def played(rate: float, wire: Wire | None = None, duration_s: float = 4.0, **options: float) -> Played:
    one = version(wire=wire) if wire is not None else version()
    return play(setting(one, **options), [traffic(rate)], 1.0, duration_s)  # type: ignore[arg-type]


@pytest.mark.parametrize(("slo_in_full_batches", "least"), [(2, 0.93), (3, 0.97)])
def test_the_capacity_of_a_linear_profile_is_that_of_the_targets(slo_in_full_batches: float, least: float) -> None:
    """tests/sim/test_targets.py shows that these shares of the peak are kept; a search finds them, and not much more."""
    found = capacity(setting(version()), [traffic(slo_s=slo_in_full_batches * FULL_S)], 2_000)
    assert least <= found.factor / PEAK <= 1.03
    assert found.limit is Limit.DEVICE
    assert found.played.traffic[0].in_slo_share >= 0.99


def test_the_same_seed_gives_the_same_figures() -> None:
    assert played(500.0) == played(500.0)
    assert played(500.0) != played(500.0, seed=2)


def test_every_request_is_accounted_for_under_overload() -> None:
    one = played(2 * PEAK).traffic[0]
    assert one.scheduled == one.in_slo + one.late + one.refused
    assert one.refused > 0.4 * one.scheduled
    assert one.with_misses_s["p99"] is None
    assert one.latency_s["p99"] is not None


def test_alone_a_request_takes_its_way_there_its_batch_and_its_way_back() -> None:
    wire = Wire(travel_s=0.002, wake_s=0.0005, read=Work(0.001), reply=Work(0.0005))
    alone_s = played(1.0, wire, 500.0).traffic[0].latency_s["p50"]
    assert alone_s is not None
    batch_s = ALPHA_S + BETA_S - HAND_OFF_S + JOIN_S
    assert alone_s == pytest.approx(0.002 + 0.0005 + 0.001 + HAND_OVER_S + batch_s + 0.0005 + 0.0005, rel=0.01)


def test_an_idle_instance_begins_when_the_turn_of_the_event_loop_is_over() -> None:
    """While the answers to one batch are written, the next one waits for the interpreter, so the device is busy less."""
    quick, slow = (
        play(
            setting(replace(version(wire=Wire(reply=Work(any_s=reply_s))), limits=Limits(2, 10**6, 0))),
            [traffic(300.0)],
            1.0,
            5.0,
        )
        for reply_s in (0.0, 0.0005)
    )
    assert slow.device_busy[KEY] < quick.device_busy[KEY]


def test_the_event_loop_does_one_thing_after_the_other() -> None:
    wire = Wire(read=Work(any_s=0.0015), reply=Work(any_s=0.0005))  # 500 requests/s and no more
    found = capacity(setting(version(wire=wire)), [traffic()], N)
    assert 450 < found.factor < 505
    assert found.limit is Limit.LOOP


def test_what_a_request_costs_the_loop_grows_with_its_tensors() -> None:
    assert Work(1.0, 2.0, 0.5).of(rows=3, length=4) == 1.0 + 3 * (2.0 + 0.5 * 4)


def test_batches_of_an_inline_model_keep_the_event_loop_busy() -> None:
    wire = Wire(read=Work(any_s=1e-4))
    fast = play(setting(version(wire=wire, inline=True, scale=20)), [traffic(2000.0)], 1.0, 5.0)
    assert fast.loop_busy == pytest.approx(0.2 + fast.device_busy[KEY], abs=0.01)
    assert fast.traffic[0].refused == 0
    assert fast.mean_batch(KEY) > 1.03, "who comes while a batch runs is in the next one"


def test_only_the_brief_batches_of_a_model_keep_it_busy() -> None:
    some = replace(version(), costs=CostTable(version().profile, MAX_ROWS, brief_s=BETA_S + 2.5 * ALPHA_S))
    played = play(setting(some), [traffic(0.5 * PEAK)], 1.0, 5.0)
    assert 0 < played.loop_busy < played.device_busy[KEY]


def test_a_slower_device_has_less_capacity() -> None:
    slow = capacity(setting(version(), slower=2.0), [traffic(slo_s=6 * FULL_S)], N)
    assert slow.factor == pytest.approx(PEAK / 2, rel=0.05)


def test_other_programs_take_from_the_device_only_what_is_not_free() -> None:
    one = version(instances=1)  # of two cores
    assert one.crowded(0.5) == 1.0
    assert one.crowded(1.5) == 2.0
    assert version(instances=2).crowded(0.5) == pytest.approx(2 / 1.5)


def test_batch_times_have_the_quantiles_of_the_profile() -> None:
    profile = Profile(
        DEVICE, Placement(1, 1), (Cell(1, 0, 0.010, 0.012, 0.020, 100, 0), Cell(4, 0, 0.020, 0.022, 0.030, 100, 0))
    )
    drawn = Drawn(profile, random.Random(1), slower=2.0)
    times = sorted(drawn.batch_s(1, 0) for _ in range(20_000))
    assert [times[int(share * 20_000)] for share in (0.5, 0.95, 0.99)] == pytest.approx([0.020, 0.024, 0.040], rel=0.05)
    assert times[0] == pytest.approx(0.018, rel=0.01)
    assert times[-1] < 0.045


def test_requests_are_the_same_at_every_rate() -> None:
    slow, fast = traffic(100.0).requests(1.0, 20.0, 3), traffic(100.0).requests(2.0, 10.0, 3)
    assert [one.arrived_at / 2 for one in slow] == pytest.approx([one.arrived_at for one in fast])


def test_there_is_no_capacity_where_the_fastest_answer_is_late() -> None:
    found = capacity(setting(version()), [traffic(slo_s=1.5 * (ALPHA_S + BETA_S))], 1_000)
    hopeless = capacity(setting(version()), [traffic(slo_s=0.5 * (ALPHA_S + BETA_S))], 200)
    assert found.factor > 0
    assert (hopeless.factor, hopeless.limit) == (0.0, Limit.ALONE)


def sized(rate: float, slo_s: float, headroom: float = 0.25, instances: int = 1) -> Size:
    found = size(setting(version(instances=instances)), traffic(rate, slo_s), headroom, N)
    assert isinstance(found, Size)
    return found


def test_more_load_never_needs_fewer_machines() -> None:
    counts = [sized(rate, 0.05).machines for rate in (100, 20_000)]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert 20_000 * 1.25 / PEAK < counts[-1] < 1.5 * 20_000 * 1.25 / PEAK


def test_a_tighter_slo_never_needs_fewer_machines() -> None:
    counts = [sized(10_000, slo_s).machines for slo_s in (0.06, 0.01)]
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


def test_headroom_is_kept() -> None:
    for headroom in (0.0, 1.0):
        found = sized(5000, 0.03, headroom)
        assert found.reserve >= headroom
        assert found.usual.traffic[0].in_slo_share >= 0.99


def test_one_machine_gets_no_more_instances_than_it_needs_nor_than_were_measured() -> None:
    assert sized(100, 0.015, instances=2).instances == 1
    assert sized(PEAK, 0.015, instances=2).instances == 2
    more = replace(version(instances=2), placement=Placement(8, 1))
    found = size(setting(more), traffic(10_000, 0.015), 0.0, N)
    assert isinstance(found, Size)
    assert found.instances == 2


def test_no_number_of_machines_keeps_what_one_request_alone_does_not() -> None:
    found = size(setting(version()), traffic(10, 0.004), 0.25, N)
    assert isinstance(found, Capacity)
    assert found.limit is Limit.ALONE


def test_a_run_lasts_for_many_slos() -> None:
    assert lasts_s([traffic(slo_s=1.0)], 1000.0, 10_000) == 50.0
    assert lasts_s([traffic(slo_s=0.1)], 1000.0, 10_000) == 10.0
    assert lasts_s([traffic(slo_s=1e6)], 1000.0, 10_000) == 100.0, "but not for ever"


def test_the_capacity_of_a_ramp_is_that_at_which_its_end_is_kept() -> None:
    """It is a multiple of the rate that was asked for, however much the ramp adds to that."""
    steady, ramp = (
        capacity(setting(version()), [traffic()], N),
        capacity(setting(version()), [replace(traffic(), arrivals=Shaped(Ramp(1, 3)))], N),
    )
    assert steady.factor / 3.3 <= ramp.factor <= steady.factor / 2.4


def test_traffic_that_begins_late_has_its_capacity_too() -> None:
    steady, late = (
        capacity(setting(version()), [traffic()], N),
        capacity(setting(version()), [replace(traffic(), start_s=20.0)], N),
    )
    assert late.factor == pytest.approx(steady.factor, rel=0.05)
