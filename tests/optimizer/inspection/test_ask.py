"""Two versions' answers side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import OptimizeError
from optimizer.inspection.ask import compare
from optimizer.inspection.versions import find_version, made_up_requests
from server.backends.base import Picked
from server.backends.catalog import find_backends
from tests.models import affine, publish_model
from tests.optimizer.inspection.changed import copy_of


def picked(text: str, repository: Path) -> Picked:
    return find_backends().pick(find_version(text, repository).read())


def test_equal_versions_answer_alike(made: Path) -> None:
    first = picked("affine/1", made)
    found = compare(first, picked("affine/2", made), made_up_requests(first.files.manifest))
    assert found.excess == 0
    assert found.agreement.leading.largest_absolute == 0


def test_the_first_is_the_original(made: Path) -> None:
    first = picked("affine/1", made)
    found = compare(first, picked("affine/3", made), made_up_requests(first.files.manifest))
    assert found.excess > 1
    assert found.agreement.leading.largest_absolute == pytest.approx(0.5)


def test_the_greatest_difference_counts(made: Path, tmp_path: Path) -> None:
    publish_model(tmp_path, "steep", affine(3.0), max_rows=2)
    requests = [{"x": np.full((1, 4), value, np.float32)} for value in (0.0, 1.0, 0.0)]
    found = compare(picked("affine/1", made), picked("steep", tmp_path), requests)
    assert found.excess == pytest.approx(1 / (1e-4 + 1e-3 * 3))


def test_a_failure_says_who_failed_on_what(made: Path) -> None:
    both = picked("affine/1", made)
    with pytest.raises(OptimizeError, match=r"affine/1 fails on x \[1, 3\]"):
        compare(both, both, [{"x": np.ones((1, 3), np.float32)}])


def test_other_outputs_cannot_be_compared(made: Path) -> None:
    with pytest.raises(OptimizeError, match=r"the outputs are \['y'\] and \['mean'\]"):
        compare(picked("affine/1", made), picked("plain", made), [])


def test_a_file_that_does_not_load_is_named(made: Path, tmp_path: Path) -> None:
    first = picked("affine/1", made)
    repository = copy_of(made, "affine", tmp_path)
    other = picked("affine/1", repository)
    (repository / "affine" / "1" / "model.onnx").write_bytes(b"other")
    with pytest.raises(OptimizeError, match="cannot load it"):
        compare(first, other, made_up_requests(first.files.manifest))
