"""When recordings are written, where, and how many are kept."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from server.recording.file import read
from server.recording.replay import first_difference
from server.runtime.recorder import LEAST_BETWEEN_S, N_KEPT, Recorder, folder_of
from tests.server.runtime.scripted_world import World, publish_fake, world


class Setting:
    """A scripted world with a recorder whose clock is the test's."""

    def __init__(self, near: World, folder: Path | None) -> None:
        self.near = near
        self.now = 1000.0
        self.recorder = Recorder(near.engine, near.metrics, lambda: self.now, folder, lambda: int(self.now * 1e3))

    async def look(self) -> Path | None:
        return await self.recorder.look(self.near.registry.serving)

    def lose_an_instance(self) -> None:
        self.near.registry.find("fake").stats.instance_lost()

    def written(self, reason: str) -> float:
        return self.near.metrics.registry.get_sample_value("ferry_recordings_total", {"reason": reason}) or 0.0


def run(tmp_path: Path, scenario: Callable[[Setting], Awaitable[None]], folder: Path | None) -> None:
    async def main() -> None:
        publish_fake(tmp_path / "repository")
        async with world(tmp_path / "repository") as near:
            await scenario(Setting(near, folder))

    asyncio.run(main())


def test_an_anomaly_leaves_a_recording_that_can_be_replayed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(s: Setting) -> None:
        await s.near.answers([s.near.ask(1.0), s.near.ask(2.0)])
        assert await s.look() is None
        s.lose_an_instance()
        with caplog.at_level(logging.WARNING):
            path = await s.look()
        assert path is not None
        assert f"ferry explain --file {path}" in caplog.text
        assert path.name.endswith("-instance_lost.jsonl")
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        recording = read(path.read_bytes())
        assert recording.header.why == "instance_lost: fake/1"
        assert first_difference(recording) is None
        assert s.written("instance_lost") == 1
        assert [one.name for one in path.parent.iterdir()] == [path.name], "no draft is left"

    run(tmp_path, scenario, tmp_path / "recordings" / "of today")


def test_at_most_one_in_a_while_and_the_last_few_are_kept(tmp_path: Path) -> None:
    async def scenario(s: Setting) -> None:
        paths = []
        for _ in range(N_KEPT + 2):
            s.lose_an_instance()
            paths.append(await s.look())
            s.lose_an_instance()
            assert await s.look() is None
            s.now += LEAST_BETWEEN_S
        foreign = tmp_path / "notes.jsonl"
        assert sorted(tmp_path.glob("*.jsonl")) == sorted([path for path in paths[-N_KEPT:] if path] + [foreign])

    (tmp_path / "notes.jsonl").write_text("not ours")
    run(tmp_path, scenario, tmp_path)


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    async def scenario(s: Setting) -> None:
        s.lose_an_instance()
        assert await s.look() is None
        assert s.written("instance_lost") == 0

    run(tmp_path, scenario, None)


def test_a_folder_that_cannot_be_written_is_told_with_a_remedy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(s: Setting) -> None:
        s.lose_an_instance()
        assert await s.look() is None
        assert "choose another folder with --recordings" in caplog.text
        assert s.written("instance_lost") == 0

    (tmp_path / "a file").write_text("")
    run(tmp_path, scenario, tmp_path / "a file" / "below")


def test_a_full_disk_leaves_no_half_of_a_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def scenario(s: Setting) -> None:
        s.lose_an_instance()
        monkeypatch.setattr(s.recorder, "pieces", lambda why: map(full, [why]))
        assert await s.look() is None
        assert list((tmp_path / "recordings").iterdir()) == []

    run(tmp_path, scenario, tmp_path / "recordings")


def test_somebody_elses_folder_in_the_temporary_one_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = folder_of("temp")
    assert folder == tmp_path / f"ferry-recordings-{os.getuid()}"
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")
    monkeypatch.setattr(os, "getuid", lambda: 4711)

    async def scenario(s: Setting) -> None:
        s.lose_an_instance()
        assert await s.look() is None
        assert "belongs to somebody else" in caplog.text

    run(tmp_path, scenario, folder)
    assert list((tmp_path / "theirs").iterdir()) == []


def test_what_the_setting_means() -> None:
    assert folder_of("off") is None
    assert folder_of(Path("somewhere")) == Path("somewhere")


def test_a_bug_in_it_is_logged_and_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.runtime.recorder.LOOK_EVERY_S", 0.0)

    async def scenario(s: Setting) -> None:
        answers = iter([RuntimeError("boom"), RuntimeError("boom")])

        def models() -> list[object]:
            raise next(answers, asyncio.CancelledError())

        with pytest.raises(asyncio.CancelledError):
            await s.recorder.watch(models)  # type: ignore[arg-type]
        assert caplog.text.count("the flight recorder failed: a bug in ferry") == 2

    run(tmp_path, scenario, None)
