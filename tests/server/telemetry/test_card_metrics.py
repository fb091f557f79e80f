"""Each figure of a card under both names; what the driver does not tell is not exported."""

from __future__ import annotations

from server.backends.nvidia import CardReading
from server.telemetry.metrics import Metrics

NOW = CardReading("A card", "GPU-7", 0.4, 3, 80, 312.5, 700.0)
VALUES = {
    ("ferry_card_utilization", "nv_gpu_utilization"): 0.4,
    ("ferry_card_memory_used_bytes", "nv_gpu_memory_used_bytes"): 3,
    ("ferry_card_memory_total_bytes", "nv_gpu_memory_total_bytes"): 80,
    ("ferry_card_power_watts", "nv_gpu_power_usage"): 312.5,
    ("ferry_card_power_limit_watts", "nv_gpu_power_limit"): 700.0,
}


def names(metrics: Metrics) -> set[str]:
    return {one.name for one in metrics.registry.collect() if one.name.startswith(("ferry_card", "nv_"))}


def test_every_figure_has_ferrys_name_and_tritons() -> None:
    metrics = Metrics(lambda: 0.0)
    metrics.watch_card(lambda: NOW)
    sample = metrics.registry.get_sample_value
    for (ours, theirs), value in VALUES.items():
        assert sample(ours, {"card": "A card", "uuid": "GPU-7"}) == value
        assert sample(theirs, {"gpu_uuid": "GPU-7"}) == value
    assert names(metrics) == {name for pair in VALUES for name in pair}


def test_a_card_is_read_at_each_scrape() -> None:
    metrics, used = Metrics(lambda: 0.0), [3]
    metrics.watch_card(lambda: NOW._replace(memory_used_bytes=used[0]))
    for used[0] in (3, 5):
        assert metrics.registry.get_sample_value("nv_gpu_memory_used_bytes", {"gpu_uuid": "GPU-7"}) == used[0]


def test_what_is_not_known_is_not_exported() -> None:
    metrics = Metrics(lambda: 0.0)
    metrics.watch_card(lambda: NOW._replace(utilization=None, power_w=None, power_limit_w=None))
    assert names(metrics) == {
        "ferry_card_memory_used_bytes", "nv_gpu_memory_used_bytes", "ferry_card_memory_total_bytes", "nv_gpu_memory_total_bytes",
    }  # fmt: skip


def test_zero_is_a_figure() -> None:
    metrics = Metrics(lambda: 0.0)
    metrics.watch_card(lambda: NOW._replace(utilization=0.0))
    assert metrics.registry.get_sample_value("nv_gpu_utilization", {"gpu_uuid": "GPU-7"}) == 0


def test_without_a_card_there_are_none_nor_after_it_was_forgotten() -> None:
    metrics = Metrics(lambda: 0.0)
    assert names(metrics) == set()
    forget = metrics.watch_card(lambda: NOW)
    assert len(names(metrics)) == 2 * len(VALUES)
    forget()
    assert names(metrics) == set()
