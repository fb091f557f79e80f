"""V2's log settings: each kind is on or off by itself, at once; a bad setting changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from server.errors import FerryError
from server.telemetry.log_levels import LogLevels


class Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.levelno)


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def logger(collector: Collector) -> logging.Logger:
    made = logging.Logger("alone", logging.INFO)
    made.addHandler(collector)
    return made


D, INFO, W, E, C = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        ({}, [INFO, W, E, C]),
        ({"log_verbose_level": 1}, [D, INFO, W, E, C]),
        ({"log_info": False}, [W, E, C]),
        ({"log_warning": False}, [INFO, E, C]),
        ({"log_error": False, "log_verbose_level": 9}, [D, INFO, W]),
        ({"log_info": False, "log_warning": False, "log_error": False}, []),
    ],
)
def test_what_passes(logger: logging.Logger, collector: Collector, wanted: Mapping[str, object], passes: list[int]) -> None:
    levels = LogLevels(logger)
    levels.change(wanted)
    levels.change(wanted)  # twice is once
    for level in (D, INFO, W, E, C):
        logger.log(level, "x")
    assert collector.seen == passes
    assert levels.to_json().items() >= wanted.items()


def test_it_starts_with_what_the_server_was_told(logger: logging.Logger) -> None:
    logger.setLevel(logging.WARNING)
    assert LogLevels(logger).to_json() == {"log_info": False, "log_warning": True, "log_error": True, "log_verbose_level": 0}
    logger.setLevel(logging.DEBUG)
    assert LogLevels(logger).to_json()["log_verbose_level"] == 1


@pytest.mark.parametrize(
    "wanted",
    [
        {"log_info": 1}, {"log_error": None}, {"log_verbose_level": True}, {"log_verbose_level": -1}, {"log_verbose_level": "1"},
        {"log_file": "/tmp/x"}, {"log_format": "ISO8601"}, {"colour": True},
    ],
)  # fmt: skip
def test_a_bad_setting_changes_nothing(logger: logging.Logger, wanted: dict[str, object]) -> None:
    levels = LogLevels(logger)
    before = levels.to_json()
    with pytest.raises(FerryError, match=next(iter(wanted))):
        levels.change({"log_warning": False, **wanted})
    assert levels.to_json() == before
    assert logger.level == logging.INFO
