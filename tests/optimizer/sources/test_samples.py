"""Sample requests that do not fit are named one by one."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from optimizer.errors import SourceError
from optimizer.sources.settings import Settings, read_settings
from optimizer.sources.tensors import check_samples, signature_of

FLOAT = np.float32
RAGGED = Settings(axes={"x": {1: "sequence"}}, lengths=(2, 4))


def x(*shape: int) -> dict[str, Any]:
    return {"x": np.zeros(shape, FLOAT)}


@pytest.mark.parametrize(
    ("samples", "settings", "wanted"),
    [
        (None, Settings(), "samples() must return a non-empty list"),
        ([[1]], Settings(), "sample 0 is of type list"),
        ([x(1, 2), {"y": np.zeros((1, 2))}], Settings(), "sample 1 has inputs ['y'], sample 0 has ['x']"),
        ([{"x": [1.0]}], Settings(), "sample 0, input 'x': is of type list; give a numpy array"),
        ([x(3, 2)], Settings(), "first axis has size 1"),
        ([{"x": np.array([["a"]])}], Settings(), "which cannot be served"),
        ([x(1, 2), {"x": np.zeros((1, 2), np.int64)}], Settings(), "all samples need the same type"),
        ([x(1, 2), x(1, 3)], Settings(), "has size 3 in axis 1, sample 0 has 2; name the axis in AXES"),
        ([x(1, 5)], RAGGED, "has length 5, outside LENGTHS (2, 4)"),
        ([x(1)], RAGGED, "has 1 axes, AXES names axis 1"),
        ([{"y": np.zeros((1, 2), FLOAT)}], RAGGED, "AXES names 'x', the samples have ['y']"),
        (
            [{"x": np.zeros((1, 2), FLOAT), "y": np.zeros((1, 3), FLOAT)}],
            Settings(axes={"x": {1: "s"}, "y": {1: "s"}}),
            "sample 0 has sizes [2, 3] in axis 's'",
        ),
    ],
)
def test_refused(samples: object, settings: Settings, wanted: str) -> None:
    with pytest.raises(SourceError, match=re.escape(wanted)):
        check_samples(samples, settings, "model.py")


def test_the_signature_names_batch_and_free_axes() -> None:
    (spec,) = signature_of(check_samples([x(1, 3), x(1, 4)], RAGGED, "model.py")[0], RAGGED).inputs
    assert spec.shape == ("batch", "sequence")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"AXES": []}, "AXES must map inputs"),
        ({"AXES": {"x": {"1": "s"}}}, "AXES['x'] must map axis numbers to names"),
        ({"AXES": {"x": {1: "s", 2: "t"}}}, "one axis besides 'batch' is supported"),
        ({"AXES": {"x": {1: "s"}}, "LENGTHS": (4, 4)}, "LENGTHS must be two sizes"),
        ({"AXES": {"x": {1: "s"}}, "PADS": {"x": "0"}}, "PADS must map inputs to numbers"),
        ({"OUTPUTS": ["a", "a"]}, "OUTPUTS must list distinct names"),
        ({"MAX_ROWS": True}, "MAX_ROWS must be a positive number"),
    ],
)
def test_settings_refused(values: dict[str, object], wanted: str) -> None:
    with pytest.raises(SourceError, match=re.escape(wanted)):
        read_settings(values, "model.py")
