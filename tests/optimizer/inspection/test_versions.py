"""How versions are found, and the requests that they are asked with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import OptimizeError
from optimizer.inspection.versions import find_version, length_of, made_up_requests, read_requests
from server.contract.errors import ContractError
from tests.optimizer.inspection.changed import copy_of


@pytest.mark.parametrize(
    ("text", "label", "version"), [("affine", "affine/3", 3), ("affine/1", "affine/1", 1), ("plain", "plain/1", 1)]
)
def test_a_model_or_one_of_its_versions(made: Path, text: str, label: str, version: int) -> None:
    place = find_version(text, made)
    assert (place.label, place.version, place.folder.name) == (label, version, str(version))
    assert place.read().version == version
    wants = place.wants()
    assert wants is not None
    assert wants.slo_s == 5.0


def test_a_folder_is_known_by_its_number_where_it_lies_in_a_model(made: Path, tmp_path: Path) -> None:
    inside = find_version(str(made / "affine" / "2"), tmp_path)
    assert inside.version == 2
    assert inside.wants() is not None
    assert find_version(str(made / "affine"), tmp_path).version == 3
    repository = copy_of(made, "affine", tmp_path)
    alone = (repository / "affine" / "1").rename(tmp_path / "alone")
    place = find_version(str(alone), made)
    assert (place.version, place.wants()) == (0, None)
    assert place.read().manifest.name == "affine"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("nosuch", "neither a model of"),
        ("affine/9", "affine has 1, 2, 3"),
        ("affine/x", "neither a model of"),
        ("", "neither a model"),
    ],
)
def test_what_is_not_there_is_named(made: Path, text: str, wanted: str) -> None:
    with pytest.raises(OptimizeError, match=wanted):
        find_version(text, made)


def test_a_model_without_versions_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptimizeError, match="holds no version"):
        find_version("empty", tmp_path)


def test_damage_is_found_when_it_is_read(made: Path, tmp_path: Path) -> None:
    repository = copy_of(made, "affine", tmp_path)
    (repository / "affine" / "1" / "model.onnx").write_bytes(b"other")
    with pytest.raises(ContractError, match="damaged"):
        find_version("affine/1", repository).read()


def test_made_up_requests_have_all_three_lengths_and_are_the_same_each_time(made: Path) -> None:
    manifest = find_version("masked", made).read().manifest
    requests = made_up_requests(manifest)
    assert sorted({length_of(request, manifest) for request in requests}) == [1, 8, 16]
    assert all(
        np.array_equal(one["ids"], other["ids"]) for one, other in zip(requests, made_up_requests(manifest), strict=True)
    )


def test_given_requests_are_cut_into_rows(made: Path, tmp_path: Path) -> None:
    manifest = find_version("affine", made).read().manifest
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.savez(tmp_path / "some.npz", x=values)
    requests = read_requests(tmp_path / "some.npz", manifest)
    assert [request["x"].tolist() for request in requests] == [[row] for row in values.tolist()]
    assert length_of(requests[0], manifest) == 0


@pytest.mark.parametrize(
    ("model", "arrays", "wanted"),
    [
        ("affine", {"z": np.ones((1, 4), np.float32)}, r"has arrays \['z'\], the model's inputs are \['x'\]"),
        ("affine", {"x": np.ones((1, 3), np.float32)}, r"'x' is float32 \[1, 3\], the model wants float32 \[n, 4\]"),
        ("affine", {"x": np.ones((1, 4), np.float64)}, "'x' is float64"),
        ("affine", {"x": np.ones((0, 4), np.float32)}, r"\[0\] rows"),
        ("masked", {"ids": np.ones((2, 3), np.int64), "mask": np.ones((1, 3), np.int64)}, r"\[1, 2\] rows"),
        ("masked", {"ids": np.ones((1, 3), np.int64), "mask": np.ones((1, 4), np.int64)}, r"has sizes \[3, 4\]"),
        ("plain", {"x": np.ones((1, 1), np.float32)}, "of 2 to 8"),
        ("masked", {"ids": np.ones((1, 99), np.int64), "mask": np.ones((1, 99), np.int64)}, "of 1 to 16"),
    ],
)
def test_wrong_requests_are_named(made: Path, tmp_path: Path, model: str, arrays: dict[str, object], wanted: str) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(OptimizeError, match=wanted):
        read_requests(path, find_version(model, made).read().manifest)


def test_what_is_no_npz_file_is_named(made: Path, tmp_path: Path) -> None:
    manifest = find_version("affine", made).read().manifest
    (tmp_path / "some.npz").write_bytes(b"text")
    for path in (tmp_path / "some.npz", tmp_path / "nosuch.npz"):
        with pytest.raises(OptimizeError, match=r"not an \.npz file"):
            read_requests(path, manifest)
