"""The whole checklist on published versions: what passes, and that each kind of damage fails its own item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from optimizer.inspection.checklist import checklist
from optimizer.inspection.readiness import Item, Mark
from optimizer.inspection.versions import find_version
from server.backends.base import Array, Backends, BatchError, LoadError, Session
from server.backends.catalog import find_backends
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.layout import describe_file
from server.contract.tensors import TensorSpec
from tests.optimizer.inspection.changed import change, compared, copy_of

FAST = "fast"


class Fast(OnnxRuntimeBackend):
    """Another backend for the same files, which spoils answers or does not load, when told to."""

    def __init__(self, spoils: bool = False, loads: bool = True) -> None:
        super().__init__()
        self.name = FAST
        self.spoils, self.loads = spoils, loads

    def load(self, folder: Path, threads: int) -> Session:
        if not self.loads:
            raise LoadError("no such device")
        session = super().load(folder, threads)
        return Spoiled(session) if self.spoils else session


class Spoiled:
    """Adds a row's number to its answer, and takes 3 rows at most."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.inputs: tuple[TensorSpec, ...] = session.inputs
        self.outputs: tuple[TensorSpec, ...] = session.outputs

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        if len(next(iter(inputs.values()))) > 3:
            raise BatchError("out of memory")
        return [array + np.arange(len(array))[:, None].astype(array.dtype) for array in self._session.run(inputs)]

    def close(self) -> None:
        self._session.close()


def run(text: str, repository: Path, backends: Backends | None = None, deploy: Path = Path("nosuch")) -> dict[str, Item]:
    items = checklist(find_version(text, repository), backends or find_backends(), deploy)
    return {item.name: item for item in items}


def failed(items: dict[str, Item]) -> list[str]:
    return [item.name for item in items.values() if item.mark is Mark.FAILED]


def test_a_healthy_version_passes(made: Path, tmp_path: Path) -> None:
    repository = copy_of(made, "masked", tmp_path)
    change(repository / "masked" / "1", "manifest.json", compared)
    items = run("masked", repository)
    assert list(items) == [
        "digests", "quality", "backend", "baseline", "hardware", "SLO", "rows", "padding", "edges", "fallback", "alerts",
    ]  # fmt: skip
    assert failed(items) == []
    assert [name for name, item in items.items() if item.mark is Mark.WARNING] == ["alerts"]
    assert "shortest input, longest input, zeros: all finite" in items["edges"].detail


def test_a_version_that_nobody_compared_is_not_ready(made: Path) -> None:
    assert failed(run("plain", made)) == ["quality"]


def test_damage_stops_the_list(made: Path, tmp_path: Path) -> None:
    repository = copy_of(made, "affine", tmp_path)
    (repository / "affine" / "3" / "model.onnx").write_bytes(b"other")
    items = run("affine", repository)
    assert list(items) == ["digests"]
    assert "damaged" in items["digests"].detail


def test_a_missing_profile_and_objective_fail(made: Path, tmp_path: Path) -> None:
    repository = copy_of(made, "affine", tmp_path)
    (repository / "affine" / "3" / "profile.json").unlink()
    (repository / "affine" / "model.toml").write_text("slo = 20")
    items = run("affine", repository)
    assert failed(items) == ["quality", "baseline", "SLO"]
    assert "model.toml" in items["SLO"].detail


def test_answers_that_are_not_finite_fail_at_their_edge(made: Path) -> None:
    items = run("roots", made)
    assert "edges" in failed(items)
    assert "zeros, 1 row: output 'y' is not finite" in items["edges"].detail


def test_rows_are_checked_again(made: Path) -> None:
    items = run("affine", made, Backends({"onnxruntime": Fast(spoils=True)}))
    assert "rows" in failed(items)
    assert "changes when it shares a batch" in items["rows"].detail


def test_a_promise_about_padding_is_checked_again(made: Path, tmp_path: Path) -> None:
    repository = copy_of(made, "plain", tmp_path)
    change(repository / "plain" / "1", "manifest.json", lambda data: data["ragged"].update(mixes=True))
    items = run("plain", repository)
    assert "padding" in failed(items)
    assert "padding changes answers" in items["padding"].detail


def test_a_batch_that_fails_does_so_at_its_edge(made: Path) -> None:
    items = run("affine", made, Backends({"onnxruntime": Fast(spoils=True)}))
    assert "made-up input, 4 rows: the model fails on x [4, 4]: out of memory" in items["edges"].detail


def test_a_tokenizer_is_checked_again(made: Path, tmp_path: Path) -> None:
    items = run("words", made)
    assert items["text"].mark is Mark.PASSED
    assert "token ids up to" in items["text"].detail
    folder = copy_of(made, "words", tmp_path) / "words" / "1"
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace('"w59": 62', '"w59": 900').replace('"w59":62', '"w59":900'))
    entry = describe_file(file)
    change(
        folder, "manifest.json", lambda data: [one.update(asdict(entry)) for one in data["files"] if one["path"] == entry.path]
    )
    assert "which the model refuses" in run("words", tmp_path)["text"].detail


def test_a_version_that_does_not_load_fails(made: Path) -> None:
    items = run("affine", made, Backends({"onnxruntime": Fast(loads=False)}))
    assert "loading" in failed(items)
    assert "no such device" in items["loading"].detail


def on_fast(made: Path, tmp_path: Path, fallback: str | None = "onnxruntime") -> Path:
    repository = copy_of(made, "affine", tmp_path)
    folder = repository / "affine" / "3"
    named = {"schema": 3, "backend": FAST, **({"fallback": fallback} if fallback else {})}
    change(folder, "manifest.json", lambda data: data.update(named))
    return repository


def test_a_fallback_must_be_there_and_measured(made: Path, tmp_path: Path) -> None:
    repository = on_fast(made, tmp_path)
    both = Backends({FAST: Fast(), "onnxruntime": OnnxRuntimeBackend()})
    found = run("affine", repository, both)["fallback"]
    assert (found.mark, "never measured" in found.detail) == (Mark.WARNING, True)
    folder = repository / "affine" / "3"
    (folder / "profile.fallback.json").write_bytes((folder / "profile.json").read_bytes())
    assert run("affine", repository, both)["fallback"].mark is Mark.PASSED


def test_without_a_fallback_another_backend_is_not_ready(made: Path, tmp_path: Path) -> None:
    items = run("affine", on_fast(made, tmp_path, None), Backends({FAST: Fast(), "onnxruntime": OnnxRuntimeBackend()}))
    assert "fallback" in failed(items)
    assert items["fallback"].detail.startswith("none: where fast cannot be used")


def test_where_its_own_backend_is_missing_the_fallback_is_asked(made: Path, tmp_path: Path) -> None:
    items = run("affine", on_fast(made, tmp_path), Backends({"onnxruntime": OnnxRuntimeBackend()}, {FAST: "needs a device"}))
    assert items["backend"].mark is Mark.WARNING
    assert "fast, cannot be used here: needs a device" in items["backend"].detail
    assert items["rows"].mark is Mark.PASSED


def test_a_fallback_that_cannot_be_used_fails(made: Path, tmp_path: Path) -> None:
    items = run("affine", on_fast(made, tmp_path), Backends({FAST: Fast()}, {"onnxruntime": "not installed"}))
    assert failed(items) == ["quality", "fallback"]
    assert "not installed" in items["fallback"].detail


def test_a_fallback_that_does_not_load_fails(made: Path, tmp_path: Path) -> None:
    items = run("affine", on_fast(made, tmp_path), Backends({FAST: Fast(), "onnxruntime": Fast(loads=False)}))
    assert failed(items) == ["quality", "fallback"]
    assert "no such device" in items["fallback"].detail


def test_nothing_that_could_serve_it_fails(made: Path, tmp_path: Path) -> None:
    items = run(
        "affine", on_fast(made, tmp_path, None), Backends({"onnxruntime": OnnxRuntimeBackend()}, {FAST: "needs a device"})
    )
    assert "backend" in failed(items)
    assert "needs a device" in items["backend"].detail
