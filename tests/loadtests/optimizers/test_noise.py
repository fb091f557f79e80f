"""What of a difference is chance: what versions of one file differ by, and what one search was unsure of."""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.agreed import Agreement
from loadtests.optimizers.noise import LEAST, fell, noise, twins
from loadtests.optimizers.quality import Quality, quality_values
from tests.loadtests.optimizers.example import version

EXACT = quality_values(Quality(Agreement("y", 1.0, 1.0, 1.0, 1.0), None, None))


def tried(rate: float, decision: str = "holds", kept_up: bool = True) -> dict[str, Any]:
    return {"rate": rate, "decision": decision, "kept_up": kept_up}


def test_the_same_file_on_the_same_terms_is_a_twin() -> None:
    versions = {"plain": version("plain", 100.0), "copy": version("swift", 80.0, closed_loop_ratio=1.2)}
    (found,) = twins(versions)
    assert (found.keys, found.exact, found.rate, found.closed_loop) == (("plain", "copy"), True, 0.25, 0.25)
    assert found.told == (
        "plain and copy are the same file: what differs between them is chance, 25.0% in the rate within the objective, 25.0% in the closed loop"
    )
    assert noise(versions, ()) == 0.25


@pytest.mark.parametrize("more", [{"backend": "openvino-bf16"}, {"max_rows": 1}, {"mixes": True}, {"sha256": "b"}])
def test_another_library_other_terms_or_another_file_make_no_twin(more: dict[str, Any]) -> None:
    assert twins({"plain": version("plain", 100.0), "other": version("swift", 80.0) | more}) == []


@pytest.mark.parametrize(
    ("n_bytes", "quality", "n"), [(88_741, EXACT, 1), (87_000, EXACT, 0), (88_741, version("x", 1.0)["quality"], 0)]
)
def test_a_file_of_nearly_the_same_size_and_the_very_same_answers_is_nearly_the_same(
    n_bytes: int, quality: Any, n: int
) -> None:
    plain = version("plain", 100.0, bytes=88_770, quality=EXACT)
    found = twins({"plain": plain, "other": version("swift", 80.0, sha256="b", bytes=n_bytes, quality=quality)})
    assert len(found) == n
    assert not any(one.exact for one in found)
    assert all("are nearly the same file (sizes within 0.1 %, the same answers)" in one.told for one in found)
    assert all("most likely chance, 25.0% in the rate" in one.told for one in found)


def test_a_twin_that_was_not_searched_for_gives_no_noise_of_rates() -> None:
    versions = {"plain": version("plain", 100.0), "copy": version("swift", None)}
    (found,) = twins(versions)
    assert found.rate is None
    assert found.told.endswith("is chance, 0.0% in the closed loop")
    assert noise(versions, ()) == LEAST


def test_a_search_is_as_unsure_as_it_fell_when_it_was_confirmed() -> None:
    tries = [tried(300.0, kept_up=False), tried(150.0, "broken"), tried(120.0), tried(120.0, "broken"), tried(100.0)]
    unsure = version("swift", 100.0, capacity=[{"rate": 100.0, "tries": tries}])
    assert fell(unsure) == pytest.approx(0.2)
    assert fell(version("swift", None)) == 0.0
    assert fell(version("swift", 0.0, capacity=[{"rate": 0.0, "tries": [tried(10.0)]}])) == 0.0
    versions = {"sure": version("swift", 100.0, sha256="b"), "unsure": unsure}
    assert noise(versions, ("sure", "unsure")) == pytest.approx(0.2)
    assert noise(versions, ("sure",)) == LEAST
