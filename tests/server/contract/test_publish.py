"""Publishing is atomic and durable: whatever dies when, the repository is the old one or the new one."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from server.contract import publish as publish_module
from server.contract.errors import ContractError
from server.contract.layout import STAGING, model_names, read_version, versions
from server.contract.publish import publish, replace_wants, staging, sweep
from server.contract.wants import FILE, Wants, read_wants
from tests.server.contract.doomed import NEW_WANTS, OLD_WANTS, publish_one
from tests.server.contract.examples import write_version

State = dict[str, tuple[list[int], Wants]]


def state(repository: Path) -> State:
    """All that a server would see. Raises when anything visible is not whole."""
    found = {}
    for name in model_names(repository):
        numbers = versions(repository / name)
        assert numbers, f"model {name} is visible without a version"
        for number in numbers:
            read_version(repository / name, number)
        found[name] = (numbers, read_wants(repository / name / FILE))
    return found


def start(kill_at: int, what: str, repository: Path, model: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.server.contract.doomed", str(kill_at), what, str(repository), model]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])


def run(kill_at: int, what: str, repository: Path, model: str) -> tuple[int, list[str]]:
    child = start(kill_at, what, repository, model)
    output, _ = child.communicate()
    return child.returncode, output.splitlines()


def leftovers(repository: Path) -> list[str]:
    hidden = [path for path in repository.rglob(".*") if path != repository / STAGING]
    return sorted(str(path.relative_to(repository)) for path in [*hidden, *(repository / STAGING).glob("*")])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two versions of `old`."""
    folder = tmp_path / "repository"
    folder.mkdir()
    publish_one(folder, "old", OLD_WANTS)
    publish_one(folder, "old", None)
    return folder


@pytest.mark.parametrize(
    ("what", "model", "after"),
    [
        ("with wants", "new", {"new": ([1], NEW_WANTS), "old": ([1, 2], OLD_WANTS)}),
        ("without wants", "old", {"old": ([1, 2, 3], OLD_WANTS)}),
        ("with wants", "old", {"old": ([1, 2, 3], NEW_WANTS)}),
        ("wants only", "old", {"old": ([1, 2], NEW_WANTS)}),
    ],
)
def test_killed_at_every_change_it_leaves_the_old_state_or_the_new_one(
    what: str, model: str, after: State, repository: Path, tmp_path: Path
) -> None:
    before = state(repository)
    seen = []
    for kill_at in itertools.count(1):
        here = tmp_path / f"killed at {kill_at}"
        shutil.copytree(repository, here)
        status, _ = run(kill_at, what, here, model)
        visible = state(here)
        half_way = {**after, "old": (after["old"][0], OLD_WANTS)}  # the version is there, its wants are not yet
        assert visible in (before, half_way, after)
        sweep(here)
        assert state(here) == (before if visible == before else after), f"killed at change {kill_at}"
        assert leftovers(here) == []
        seen.append(state(here) == after)
        last = (versions(here / model) or [0])[-1]
        assert publish_one(here, model, NEW_WANTS) == last + 1
        shutil.rmtree(here)
        if status == 0:
            break
        assert status == -9
    assert seen == sorted(seen), "once the new state is reached it stays"
    assert (seen[0], seen[-1]) == (False, True)
    assert len(seen) > (4 if what == "wants only" else 12), "the child was killed at every change"


def test_bytes_reach_the_disk_before_the_rename_that_shows_them(repository: Path) -> None:
    _, calls = run(0, "with wants", repository, "new")
    shown = calls.index("rename version.model new")
    for line in ("fsync model.onnx", "fsync manifest.json", "fsync profile.json", "fsync version", "fsync version.model",
                 "fsync .model.toml.new"):  # fmt: skip
        assert line in calls[:shown], f"{line} comes before {calls[shown]!r}"
    assert calls[shown + 1] == "fsync repository"
    assert calls.index("fsync .model.toml.new") < calls.index("replace .model.toml.new model.toml")

    _, calls = run(0, "with wants", repository, "old")
    shown = calls.index("rename version 3")
    assert {"fsync model.onnx", "fsync manifest.json", "fsync profile.json", "fsync version", "fsync .model.toml.3"} <= set(
        calls[:shown]
    )
    assert calls[shown + 1 : shown + 4] == ["fsync old", "replace .model.toml.3 model.toml", "fsync old"]


def test_publishers_at_the_same_time_get_numbers_of_their_own(tmp_path: Path) -> None:
    children = [start(0, "with wants", tmp_path, "new") for _ in range(8)]
    for child in children:
        child.communicate()
    assert [child.returncode for child in children] == [0] * 8
    assert state(tmp_path) == {"new": ([1, 2, 3, 4, 5, 6, 7, 8], NEW_WANTS)}
    assert leftovers(tmp_path) == []


def test_a_bad_name_and_a_new_model_without_wants_change_nothing(repository: Path) -> None:
    before = state(repository)
    with pytest.raises(ContractError, match=r"model name '\.\./x' is not allowed"):
        publish_one(repository, "../x", NEW_WANTS)
    with pytest.raises(ValueError, match="model 'new' is new and needs its wants"):
        publish_one(repository, "new", None)
    assert state(repository) == before
    assert leftovers(repository) == []


def test_a_folder_without_versions_takes_its_first(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    assert publish_one(tmp_path, "demo", OLD_WANTS) == 1
    assert state(tmp_path) == {"demo": ([1], OLD_WANTS)}


def test_sub_folders_are_synced_and_moved_too(repository: Path) -> None:
    with staging(repository) as folder:
        version = write_version(folder / "version", "old")
        (version / "extra").mkdir()
        (version / "extra" / "note").write_text("x")
        assert publish(version, repository, "old", None) == 3
    assert (repository / "old" / "3" / "extra" / "note").read_text() == "x"


def test_wants_are_replaced_in_one_step(repository: Path) -> None:
    replace_wants(repository, "old", NEW_WANTS)
    assert state(repository) == {"old": ([1, 2], NEW_WANTS)}
    assert leftovers(repository) == []


def test_staging_is_removed_however_it_ends(tmp_path: Path) -> None:
    with suppress(RuntimeError), staging(tmp_path) as folder:
        (folder / "x").touch()
        raise RuntimeError
    assert leftovers(tmp_path) == []


def test_sweep_leaves_the_living_alone(tmp_path: Path) -> None:
    assert sweep(tmp_path) == []
    (tmp_path / STAGING / "dead" / "version").mkdir(parents=True)
    with staging(tmp_path) as alive:
        assert sweep(tmp_path) == [tmp_path / STAGING / "dead"]
        assert alive.is_dir()


def test_wants_of_a_publication_that_failed_are_forgotten_by_the_next(repository: Path) -> None:
    (repository / "old" / ".model.toml.3").write_text(NEW_WANTS.to_toml())
    assert publish_one(repository, "old", None) == 3
    assert state(repository) == {"old": ([1, 2, 3], OLD_WANTS)}
    assert sweep(repository) == []


def test_sweep_completes_a_publication_that_was_visible(repository: Path) -> None:
    draft = repository / "old" / ".model.toml.2"
    draft.write_text(NEW_WANTS.to_toml())
    assert sweep(repository) == [draft]
    assert state(repository) == {"old": ([1, 2], NEW_WANTS)}


def test_a_scratch_folder_that_goes_while_it_is_looked_at_is_nobodys_trouble(tmp_path: Path) -> None:
    assert not publish_module._is_abandoned(tmp_path / "just removed")
