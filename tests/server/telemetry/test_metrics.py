"""What is promised to scrapers, and that the books agree with what was served."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest

from server.core.forecast import Forecast
from server.core.types import Close, InferRequest, ModelKey
from server.errors import InstanceLost, Refused
from server.simulation.laws import linear_costs
from server.telemetry.metrics import Metrics, Objective
from server.telemetry.model_stats import ModelStats, all_stats

KEY = ModelKey("m", 1, 1)


@dataclass(frozen=True)
class Step:
    began_at: float = 1.0
    joined_at: float = 1.001
    computed_at: float = 1.011
    ended_at: float = 1.012


@dataclass(frozen=True)
class Payload:
    prepared_s: float = 0.0
    allowed_s: float = 1.0


def request(number: int, arrived_at: float = 0.9, rows: int = 1, prepared_s: float = 0.0) -> InferRequest[Payload]:
    return InferRequest(number, KEY, rows, 0, arrived_at, arrived_at + 1, Payload(prepared_s))


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"model": "m", "version": "1", **labels})


def test_every_outcome_leaves_the_gauge_in_flight_at_zero() -> None:
    metrics = Metrics(lambda: 2.0)
    stats = ModelStats(KEY, metrics.open(KEY))
    for _ in range(4):
        stats.arrived()
    assert value(metrics, "ferry_in_flight") == 4
    stats.answered([request(1)], Step(), 1.02)
    stats.ended(0.0, Refused("late", "deadline", 0.1), 1.0)
    stats.ended(0.0, InstanceLost("died"), 1.0)
    stats.cancelled()
    assert value(metrics, "ferry_in_flight") == 0
    assert value(metrics, "ferry_refused_total", reason="deadline") == 1
    assert value(metrics, "ferry_failed_total", reason="instance_lost") == 1
    assert value(metrics, "ferry_cancelled_total") == 1
    assert value(metrics, "ferry_request_seconds_count") == 1


def test_answers_after_their_deadline_are_counted_and_summed_up() -> None:
    metrics = Metrics(lambda: 2.0)
    stats = ModelStats(KEY, metrics.open(KEY))
    for _ in range(5):
        stats.arrived()
    stats.answered([request(1, 0.5), request(2, 0.01), request(3, 0.02)], Step(), 1.02)
    stats.ended(0.0, Refused("late", "deadline", 0.1), 1.0)
    stats.ended(0.0, InstanceLost("died"), 1.0)
    stats.turned_away("deadline", 2, 0.1)
    stats.instance_lost()
    assert value(metrics, "ferry_late_total") == 1
    assert stats.outcomes == (3, 1, 3, 1)


def test_the_time_until_a_text_has_its_tokens_is_a_stage_of_its_own() -> None:
    metrics = Metrics(lambda: 2.0)
    stats = ModelStats(KEY, metrics.open(KEY))
    stats.prepared([0.04])
    stats.answered([request(1, prepared_s=0.04), request(2)], Step(), 1.02)
    assert value(metrics, "ferry_tokenize_seconds_sum") == pytest.approx(0.04)
    assert value(metrics, "ferry_queue_seconds_sum") == pytest.approx(0.16)
    numbers = stats.to_json()["inference_stats"]
    assert numbers["queue"] == {"count": 2, "ns": 160_000_000}
    assert numbers["compute_input"] == {"count": 2, "ns": 42_000_000}
    spent = sum(numbers[kind]["ns"] for kind in ("queue", "compute_input", "compute_infer", "compute_output"))
    assert spent <= numbers["success"]["ns"]


def test_histograms_take_the_times_of_the_step() -> None:
    metrics = Metrics(lambda: 2.0)
    stats = ModelStats(KEY, metrics.open(KEY))
    stats.stepped(Step(), Close.IDLE, 5, 0.25)
    stats.answered([request(1), request(2)], Step(), 1.02)
    assert value(metrics, "ferry_compute_seconds_sum") == pytest.approx(0.010)
    assert value(metrics, "ferry_queue_seconds_sum") == pytest.approx(0.2)
    assert value(metrics, "ferry_request_seconds_sum") == pytest.approx(0.24)
    assert value(metrics, "ferry_batch_rows_sum") == 5
    assert value(metrics, "ferry_padding_share_sum") == 0.25
    assert value(metrics, "ferry_batches_total", close="idle") == 1


def test_the_plain_gauges_follow_the_window() -> None:
    now = 10.0
    metrics = Metrics(lambda: now)
    stats = ModelStats(KEY, metrics.open(KEY))
    for n in range(100):
        stats.answered([request(n, arrived_at=10.0)], Step(10, 10, 10, 10), 10.0 + (0.010 if n < 98 else 0.500))
    now = 10.5
    assert value(metrics, "ferry_request_p50_seconds") == pytest.approx(0.010, rel=0.01)
    assert value(metrics, "ferry_request_p99_seconds") == pytest.approx(0.500, rel=0.01)
    assert value(metrics, "ferry_requests_per_second") == pytest.approx(100)
    now = 100.0
    assert value(metrics, "ferry_requests_per_second") == 0


def test_a_reload_keeps_the_counters_and_the_gauges_of_the_newer_load() -> None:
    metrics = Metrics(lambda: 2.0)
    old, new = ModelKey("m", 1, 1), ModelKey("m", 1, 2)
    stats = ModelStats(old, metrics.open(old))
    stats.arrived()
    stats.arrived()
    stats.answered([request(1)], Step(), 1.02)
    ModelStats(new, metrics.open(new)).arrived()
    assert value(metrics, "ferry_in_flight") == 2
    metrics.close(old)
    assert value(metrics, "ferry_request_seconds_count") == 1
    assert value(metrics, "ferry_in_flight") == 1
    metrics.close(new)
    assert value(metrics, "ferry_in_flight") is None
    assert value(metrics, "ferry_request_p50_seconds") is None
    assert value(metrics, "ferry_request_seconds_count") == 1


def test_v2_statistics_add_up() -> None:
    stats = ModelStats(KEY, Metrics(lambda: 2.0).open(KEY))
    stats.stepped(Step(), Close.IDLE, 3, 0.0)
    stats.answered([request(1, rows=1), request(2, rows=2)], Step(), 1.02)
    stats.stepped(Step(), Close.FULL, 1, 0.0)
    stats.answered([request(3)], Step(), 1.02)
    (entry,) = all_stats([stats])["model_stats"]
    numbers = entry["inference_stats"]
    assert numbers["success"]["count"] == numbers["queue"]["count"] == 3
    assert (
        entry["inference_count"]
        == 4
        == sum(batch["batch_size"] * batch["compute_infer"]["count"] for batch in entry["batch_stats"])
    )
    assert entry["execution_count"] == 2
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert sum(numbers[part]["ns"] for part in parts) <= numbers["success"]["ns"] + len(parts)


def test_how_far_the_device_is_from_its_profile_is_shown_and_a_drift_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics(lambda: 2.0)
    stats = ModelStats(KEY, metrics.open(KEY))
    forecast = Forecast(linear_costs(0.001, 0.004, 4))
    stats.costs_from("published")
    stats.follow(Lane(forecast))
    assert value(metrics, "ferry_profile_source", source="published") == 1
    assert value(metrics, "ferry_profile_ratio") == 1.0
    assert value(metrics, "ferry_profile_drift", direction="slower") == 0
    with caplog.at_level("INFO"):
        for factor, n in ((2.0, 200), (1.0, 400)):
            for _ in range(n):
                forecast.learn(2, 0, factor * forecast.costs.batch_s(2, 0))
                stats.stepped(Step(), Close.IDLE, 2, 0.0)
            if factor == 2.0:
                assert value(metrics, "ferry_profile_ratio") == pytest.approx(2.0, rel=0.01)
                assert value(metrics, "ferry_profile_drift", direction="slower") == 1
                assert value(metrics, "ferry_profile_drift", direction="faster") == 0
                assert value(metrics, "ferry_profile_error", expected_by="profile") == pytest.approx(1.0, rel=0.01)
                assert value(metrics, "ferry_profile_error", expected_by="forecast") == pytest.approx(0.0, abs=0.01)
    assert value(metrics, "ferry_profile_drift", direction="slower") == 0
    assert value(metrics, "ferry_profile_guard") >= 1.0
    warned, calmed = [record.message for record in caplog.records]
    assert "ferry optimize --force" in warned
    assert "slower than the profile says: it takes 1." in warned or "takes 2." in warned
    assert "keeps to the profile again" in calmed


def test_a_device_between_two_moods_is_told_of_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """Six times it leaves its profile within 2,000 s; what is told is told at most every 600 s."""
    stats = ModelStats(KEY, Metrics(lambda: 2.0).open(KEY))
    forecast = Forecast(linear_costs(0.001, 0.004, 4))
    stats.follow(Lane(forecast))
    warned_at: list[float] = []
    n_calmed = 0
    now = 0.0
    caplog.set_level("INFO")
    for factor in (2.0, 1.0) * 6:
        for _ in range(200):
            now += 2000 / 2400
            forecast.learn(2, 0, factor * forecast.costs.batch_s(2, 0))
            stats.stepped(Step(ended_at=now), Close.IDLE, 2, 0.0)
            if caplog.records:
                [record] = caplog.records
                warned_at += [now] * (record.levelname == "WARNING")
                n_calmed += record.levelname == "INFO"
            caplog.clear()
    assert 2 <= len(warned_at) <= 4
    assert n_calmed == len(warned_at), "that all is well again is news only for who was warned"
    assert min(later - one for one, later in pairwise(warned_at)) >= 600


@dataclass
class Lane:
    """Who has a forecast."""

    forecast: Forecast


def test_what_is_promised_and_by_how_many_instances_is_exported_until_the_version_closes() -> None:
    metrics = Metrics(lambda: 2.0)
    stats = ModelStats(KEY, metrics.open(KEY))
    assert value(metrics, "ferry_instances") is None
    stats.promise({Objective.FIRST_TOKEN: 0.5, Objective.TOKEN_GAP: 0.05}, 2)
    assert value(metrics, "ferry_slo_seconds", objective="first_token") == 0.5
    assert value(metrics, "ferry_slo_seconds", objective="token_gap") == 0.05
    assert value(metrics, "ferry_slo_seconds", objective="answer") is None
    assert value(metrics, "ferry_instances") == 2
    metrics.close(KEY)
    assert value(metrics, "ferry_instances") is None


def test_memory_and_start_of_the_process_are_exported() -> None:
    registry = Metrics(lambda: 2.0).registry
    for name in ("process_resident_memory_bytes", "process_start_time_seconds", "process_open_fds"):
        assert (registry.get_sample_value(name) or 0) > 0, name
