"""Metrics of the graphics card, under ferry's names and Triton's. Asked for when somebody scrapes; who asks the driver is no matter here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class Reading(Protocol):
    """A card as it is now; None: the driver does not tell. `utilization`: share of the driver's last sample period in which anything was
    calculated, 0 to 1."""

    @property
    def name(self) -> str: ...
    @property
    def uuid(self) -> str: ...
    @property
    def utilization(self) -> float | None: ...
    @property
    def memory_used_bytes(self) -> int | None: ...
    @property
    def memory_total_bytes(self) -> int | None: ...
    @property
    def power_w(self) -> float | None: ...
    @property
    def power_limit_w(self) -> float | None: ...


class _Figure(NamedTuple):
    name: str
    alias: str
    text: str
    value: Callable[[Reading], float | None]


_FIGURES = (
    _Figure(
        "ferry_card_utilization", "nv_gpu_utilization", "Share of time in which the card calculates, 0 to 1", lambda one: one.utilization
    ),
    _Figure(
        "ferry_card_memory_used_bytes", "nv_gpu_memory_used_bytes", "Memory of the card in use, by all processes",
        lambda one: one.memory_used_bytes,
    ),
    _Figure(
        "ferry_card_memory_total_bytes", "nv_gpu_memory_total_bytes", "Memory of the card", lambda one: one.memory_total_bytes
    ),
    _Figure("ferry_card_power_watts", "nv_gpu_power_usage", "Power that the card takes, in watts", lambda one: one.power_w),
    _Figure(
        "ferry_card_power_limit_watts", "nv_gpu_power_limit", "Power that the card may take, in watts", lambda one: one.power_limit_w
    ),
)  # fmt: skip


class CardCollector(Collector):
    """Exports what a reading tells, and nothing of what it does not."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        reading = self._read()
        found = [(figure, value) for figure in _FIGURES if (value := figure.value(reading)) is not None]
        for figure, value in found:
            ours = GaugeMetricFamily(figure.name, figure.text, labels=("card", "uuid"))
            ours.add_metric([reading.name, reading.uuid], value)
            yield ours
            theirs = GaugeMetricFamily(figure.alias, f"{figure.text}; as {figure.name}", labels=("gpu_uuid",))
            theirs.add_metric([reading.uuid], value)
            yield theirs
