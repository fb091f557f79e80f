"""Memory is a budget: what versions need, who is refused and with which figures, and that all of it is given back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from server.backends.base import CardMemory, LoadError
from server.backends.scripted import ScriptedBackend
from server.contract.accelerator import Accelerator
from server.contract.device import Device, this_device
from server.contract.layout import VersionFiles, read_version
from server.contract.profile import Cell, Placement, Profile
from server.contract.profiles import Profiles
from server.contract.wants import Wants
from server.errors import BadRequest, NotReady
from server.runtime.room import Basis, Need, Room, Where, need_of, need_of_decoder, token_bytes
from tests.decoders import publish_decoder
from tests.server.runtime.generating_world import generating_world
from tests.server.runtime.scripted_world import MODEL, publish_fake, world

GB = 10**9
CARD = Accelerator("A card", "9.0", "580.1", "13.0")
WANTS = Wants(1.0)


def on_card(n_bytes: int) -> Need:
    return Need(n_bytes, Where.CARD, Basis.MEASURED)


def on_processor(n_bytes: int) -> Need:
    return Need(n_bytes, Where.PROCESSOR, Basis.RECKONED)


def version(folder: Path, memory: Mapping[int, int] | None = None, device: Device | None = None) -> VersionFiles:
    """For 8 rows. `memory`: by rows, what was measured, on `device`."""
    publish_fake(folder)
    files = read_version(folder / MODEL, 1)
    if memory is None:
        return files
    assert files.profiles is not None
    cells = tuple(Cell(rows, 0, 1e-3, 1e-3, 1e-3, 1, n_bytes) for rows, n_bytes in memory.items())
    profile = Profile(device or files.profiles.device, Placement(1, 1), cells)
    return replace(files, profiles=Profiles((profile,)))


def test_who_does_not_fit_is_told_who_has_it_and_what_to_change() -> None:
    room = Room(processor_bytes=5 * GB)
    room.take("a/1", on_processor(2 * GB))
    room.take("b/3", on_processor(2 * GB))
    with pytest.raises(LoadError) as caught:
        room.take("c/1", on_processor(1_500_000_000))
    assert str(caught.value) == (
        "c/1: needs 1.50 GB (reckoned from its files and largest batch, for it was not measured on such a machine), but of the 5.00 GB of "
        "memory for models on the processor (setting model_memory_bytes) 1.00 GB are left (a/1 has 2.00 GB, b/3 has 2.00 GB): unload one "
        "of these, lower max_rows in its model.toml, or raise model_memory_bytes"
    )
    assert room.n_bytes(Where.PROCESSOR) == 4 * GB, "who is refused takes nothing"
    room.take("d/1", on_processor(1 * GB))


def test_who_would_never_fit_is_told_so() -> None:
    with pytest.raises(
        LoadError, match=r"8\.00 MB \(measured on such a machine\), .* 7\.00 MB are left: lower max_rows in its model"
    ):
        Room(card_bytes=7_000_000).take("a/1", on_card(8_000_000))


def test_what_is_given_back_can_be_taken_again() -> None:
    room = Room(card_bytes=GB)
    first = room.take("a/1", on_card(GB))
    with pytest.raises(LoadError, match="unload a/1, "):
        room.take("a/1", on_card(GB))
    room.give_back(first)
    room.take("a/1", on_card(GB))


def test_without_a_setting_the_processor_has_no_limit_and_a_card_what_is_free_before_the_first() -> None:
    room, free = Room(), iter((3 * GB, 2 * GB))
    room.take("a/1", on_processor(10**15))
    first = room.take("b/1", on_card(2 * GB), lambda: next(free))
    with pytest.raises(
        LoadError, match=r"of the 3\.00 GB of memory of the card \(what was free when the first model was loaded there\)"
    ):
        room.take("c/1", on_card(2 * GB), lambda: next(free))
    room.give_back(first)
    with pytest.raises(LoadError, match=r"of the 2\.00 GB .* or say what the models may take: card_memory_bytes"):
        room.take("c/1", on_card(3 * GB), lambda: next(free))


def test_the_devices_do_not_take_from_each_other() -> None:
    room = Room(processor_bytes=GB, card_bytes=GB)
    room.take("a/1", on_processor(GB))
    room.take("b/1", on_card(GB))
    assert (room.n_bytes(Where.PROCESSOR), room.n_bytes(Where.CARD)) == (GB, GB)


def test_a_version_needs_what_was_measured_up_to_the_rows_that_its_owner_wants(tmp_path: Path) -> None:
    files = version(tmp_path, {1: 10, 4: 40, 8: 80})
    here, file = this_device(ScriptedBackend.runtime), ScriptedBackend.model_file
    n_file = (files.folder / file).stat().st_size
    for max_rows, wanted in ((None, 80), (8, 80), (5, 80), (4, 40), (3, 40), (1, 10)):
        need = need_of(files, replace(WANTS, max_rows=max_rows), here, file)
        assert need == Need(n_file + wanted, Where.PROCESSOR, Basis.MEASURED)


def test_what_was_measured_on_a_card_has_the_model_in_it(tmp_path: Path) -> None:
    device = this_device(ScriptedBackend.runtime, CARD)
    files = version(tmp_path, {1: 500, 8: 900}, device)
    assert need_of(files, WANTS, device, ScriptedBackend.model_file) == on_card(900)


def test_what_was_measured_elsewhere_or_not_at_all_is_reckoned_and_says_so(tmp_path: Path) -> None:
    here, file = this_device(ScriptedBackend.runtime), ScriptedBackend.model_file
    files = version(tmp_path, {8: 900}, this_device(ScriptedBackend.runtime, CARD))
    spec = files.manifest.inputs[0]
    assert spec.datatype.itemsize == 4
    n_bytes = (files.folder / file).stat().st_size + sum(
        8 * 4 * int(spec.shape[1]) for spec in (*files.manifest.inputs, *files.manifest.outputs)
    )
    assert need_of(files, WANTS, here, file) == on_processor(n_bytes)
    other = this_device(ScriptedBackend.runtime, replace(CARD, name="Another card"))
    assert need_of(files, WANTS, other, file) == Need(2 * n_bytes, Where.CARD, Basis.RECKONED)
    unmeasured = need_of(replace(files, profiles=None), WANTS, here, file)
    assert unmeasured == on_processor(n_bytes)
    untold = version(tmp_path / "other", {8: 0}, other)
    assert need_of(untold, WANTS, other, file).basis is Basis.RECKONED, "no model takes nothing"


def test_a_model_that_made_the_process_no_larger_needs_its_file(tmp_path: Path) -> None:
    files, file = version(tmp_path), ScriptedBackend.model_file
    need = need_of(files, WANTS, this_device(ScriptedBackend.runtime), file)
    assert need == Need((files.folder / file).stat().st_size, Where.PROCESSOR, Basis.MEASURED)


def test_a_model_that_does_not_fit_is_refused_and_the_others_serve(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        need = need_of(
            read_version(tmp_path / MODEL, 1), WANTS, this_device(ScriptedBackend.runtime), ScriptedBackend.model_file
        )
        async with world(tmp_path, room=Room(need.n_bytes)) as w:
            publish_fake(tmp_path, "more")
            with pytest.raises(BadRequest, match=r"more/1: needs .* \(fake/1 has .*\): unload fake/1, "):
                await w.registry.load("more")
            with pytest.raises(NotReady, match="more/1: needs"):
                w.registry.find("more")
            with pytest.raises(BadRequest, match="fake/1: needs"):
                await w.registry.load(MODEL)  # both loads of a version would be there for a while
            assert w.registry.find(MODEL).key.version == 1
            await w.registry.unload(MODEL)
            await w.registry.load("more")
            assert [model.key.name for model in w.registry.serving] == ["more"]

    asyncio.run(scenario())


@pytest.mark.parametrize("break_it", ["load", "warm-up"])
def test_a_load_that_fails_gives_its_memory_back(tmp_path: Path, break_it: str) -> None:
    room = Room()

    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path, room=room) as w:
            before = room.n_bytes(Where.PROCESSOR)
            if break_it == "load":
                w.script.load_error = "no"
            else:
                w.script.poison = _no
            with pytest.raises(BadRequest):
                await w.registry.load(MODEL)
            assert (room.n_bytes(Where.PROCESSOR), w.script.n_open) == (before, 1)

    asyncio.run(scenario())
    assert room.n_bytes(Where.PROCESSOR) == 0, "the world closed its registry"


def _no(_: object) -> str:
    return "no such shape"


class CardBackend(ScriptedBackend):
    """One whose card has hardly anything left."""

    accelerator: Accelerator | None = CARD  # type: ignore[assignment]  # the fake has none

    def card_memory(self) -> CardMemory:
        return CardMemory(1, GB)


def test_a_card_is_asked_what_is_free_before_anything_is_loaded(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path, backend=CardBackend) as w:
            reason = w.registry.problem(MODEL) or ""
            assert reason.startswith("fake/1: needs 0.20 kB (reckoned ")
            assert "of memory of the card (what was free when the first model was loaded there) 0.00 kB are left: " in reason
            assert w.script.n_open == 0

    asyncio.run(scenario())


def test_a_model_that_generates_needs_its_files_and_room_for_all_its_slots(tmp_path: Path) -> None:
    room = Room()

    async def scenario() -> None:
        publish_decoder(tmp_path)
        async with generating_world(tmp_path, room=room) as w:
            files = read_version(tmp_path / "tiny", 1)
            generation = files.manifest.generation
            assert generation is not None
            slots = w.model.limits.slots
            kept = generation.kept
            assert token_bytes(generation) == 2 * kept.layers * kept.heads * kept.head_size * 4
            need = need_of_decoder(files, generation, 1, slots)
            n_files = sum(one.bytes for one in files.manifest.files)
            assert need.n_bytes == n_files + slots * generation.longest * token_bytes(generation)
            assert room.n_bytes(Where.PROCESSOR) == need.n_bytes
        assert room.n_bytes(Where.PROCESSOR) == 0
        async with generating_world(tmp_path, room=Room(need.n_bytes - 1)) as w:
            assert (w.registry.problem("tiny") or "").startswith("tiny/1: needs ")
            assert "lower slots in its model.toml" in (w.registry.problem("tiny") or "")
            assert w.backend.loaded == []

    asyncio.run(scenario())


def test_what_is_measured_before_it_serves_has_to_fit_too_and_leaves_no_trace(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path)
        (tmp_path / "tiny" / "1" / "steps.json").unlink()
        async with generating_world(tmp_path, room=Room(1)) as w:
            assert (w.registry.problem("tiny") or "").startswith("tiny/1: needs ")
            assert w.backend.loaded == []
        room = Room()
        async with generating_world(tmp_path, room=room) as w:
            files = read_version(tmp_path / "tiny", 1)
            assert files.manifest.generation is not None
            need = need_of_decoder(files, files.manifest.generation, 1, w.model.limits.slots)
            assert room.n_bytes(Where.PROCESSOR) == need.n_bytes

    asyncio.run(scenario())
