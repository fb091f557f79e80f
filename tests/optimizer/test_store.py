"""The cache gives back what was put in, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.store import Store, digest_folder, stable_hash


def put(store: Store, key: str, text: str) -> None:
    with store.scratch() as scratch:
        out = scratch / "out"
        out.mkdir()
        (out / "a.txt").write_text(text, encoding="utf-8")
        store.keep(key, out, 1.5)


def test_found_again_and_immutable(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    assert store.find("k") is None
    put(store, "k", "one")
    put(store, "k", "two")
    found = store.find("k")
    assert found is not None
    assert ((found.folder / "a.txt").read_text(encoding="utf-8"), found.seconds) == ("one", 1.5)
    assert list((store.root / ".staging").iterdir()) == []


def test_damage_is_noticed(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    put(store, "k", "one")
    found = store.find("k")
    assert found is not None
    (found.folder / "a.txt").write_text("bad", encoding="utf-8")
    assert store.find("k") is None
    assert not found.folder.exists()


@pytest.mark.parametrize("left", ["", "{", "{}", '{"digest": 1}', None])
def test_whatever_is_left_of_an_artifact_is_made_anew(tmp_path: Path, left: str | None) -> None:
    store = Store(tmp_path / "cache")
    put(store, "k", "one")
    found = store.find("k")
    assert found is not None
    record = found.folder.parent / "artifact.json"
    if left is None:
        record.unlink()
    else:
        record.write_text(left, encoding="utf-8")
    assert store.find("k") is None
    put(store, "k", "two")
    again = store.find("k")
    assert again is not None
    assert (again.folder / "a.txt").read_text(encoding="utf-8") == "two"


def test_the_digest_covers_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1", encoding="utf-8")
    first = digest_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest_folder(tmp_path) != first
    assert stable_hash({"b": 1, "a": 2}) == stable_hash({"a": 2, "b": 1})
