"""steps.json: what is read is what was written, and nothing with holes or impossible times."""

from typing import Any

import pytest

from server.contract.errors import ContractError
from server.contract.step_profile import StepProfile
from tests.server.contract.examples import STEPS_JSON, changed


def test_round_trip() -> None:
    profile = StepProfile.from_json(STEPS_JSON, "steps.json")
    assert profile.to_json() == STEPS_JSON
    assert StepProfile.from_json(profile.to_json(), "steps.json") == profile
    assert (profile.measured_rows, profile.measured_contexts) == ((1, 4), (64, 128))


def test_the_guard_is_the_usual_ratio_of_the_worst_to_the_median() -> None:
    data = changed(STEPS_JSON, "decode.0.p99_s", 100.0)
    assert StepProfile.from_json(data, "steps.json").guard == 1.5, "one bad cell does not decide"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 2, "schema 2 is from a newer ferry"),
        ("extra", 1, "unknown field 'extra'"),
        ("device", ..., "field 'device' is missing"),
        ("device.cores", 0, "steps.json: device: field 'cores' must be at least 1"),
        ("placement.threads", 0, "placement: field 'threads' must be at least 1"),
        ("placement.gpus", 1, "placement: unknown field 'gpus'"),
        ("decode", [], "decode cells must form a full grid of rows x context, each cell once; measure again"),
        ("decode", STEPS_JSON["decode"][:3], "decode cells must form a full grid"),
        ("decode.3.rows", 1, "decode cells must form a full grid"),
        ("decode.0.rows", 0, "decode[0]: field 'rows' must be at least 1"),
        ("decode.0.p50_s", 0, "decode[0]: field 'p50_s' must be positive and p50 <= p99, found 0.0 and 1.5"),
        ("decode.0.p99_s", 0.5, "decode[0]: field 'p50_s' must be positive and p50 <= p99, found 1.0 and 0.5"),
        ("decode.0.length", 3, "decode[0]: unknown field 'length'"),
        ("prefill", [], "prefill cells must be there, each number of tokens once; measure again"),
        ("prefill.1.tokens", 16, "prefill cells must be there, each number of tokens once"),
        ("prefill.1.tokens", 0, "prefill[1]: field 'tokens' must be at least 1"),
        ("prefill.1.p50_s", "1", "prefill[1]: field 'p50_s' must be a number"),
    ],
)
def test_refuses_what_no_measurement_says(path: str, value: Any, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        StepProfile.from_json(changed(STEPS_JSON, path, value), "steps.json")
    assert str(caught.value).startswith("steps.json: ")
    assert message in str(caught.value)
