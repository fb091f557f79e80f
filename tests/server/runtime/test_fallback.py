"""A version whose own backend is not here is served by its fallback, at the fallback's costs, and that is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from server.backends.scripted import ScriptedBackend
from server.contract.layout import FALLBACK_PROFILE, MANIFEST, PROFILE
from server.errors import FerryError
from server.runtime.terms import Source
from tests.server.runtime.scripted_world import MODEL, publish_fake, world


def made_for(folder: Path, backend: str, fallback: str | None) -> Path:
    """The fake version as one for another backend."""
    publish_fake(folder, batch_s=2e-3)
    version = folder / MODEL / "1"
    manifest = json.loads((version / MANIFEST).read_text())
    manifest |= {"backend": backend} | ({"schema": 3, "fallback": fallback} if fallback else {})
    (version / MANIFEST).write_text(json.dumps(manifest))
    return version


def test_the_fallback_serves_at_its_own_costs_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    version = made_for(tmp_path, "abacus", ScriptedBackend.name)
    own = json.loads((version / PROFILE).read_text())
    (version / FALLBACK_PROFILE).write_text(json.dumps(own))
    for cell in own["cells"]:
        cell |= {"p50_s": 1e-6, "p95_s": 1e-6, "p99_s": 1e-6}
    (version / PROFILE).write_text(json.dumps(own))

    async def scenario() -> None:
        async with world(tmp_path) as w:
            model = w.registry.find(MODEL)
            assert model.manifest.backend == ScriptedBackend.name
            assert model.terms.source is Source.PUBLISHED
            assert model.terms.profile is not None
            assert model.terms.profile.predict(1) == 2e-3
            (reply,) = await w.answers([w.ask(1.0)])
            assert reply is not None
            assert reply.status == 200

    asyncio.run(scenario())
    assert f"{MODEL}/1: served by its slower fallback scripted, for its own backend cannot serve it here: " in caplog.text
    assert "this ferry has scripted; upgrade ferry, or publish the model again" in caplog.text


def test_a_fallback_without_a_profile_learns(tmp_path: Path) -> None:
    made_for(tmp_path, "abacus", ScriptedBackend.name)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            assert w.registry.find(MODEL).terms.source is Source.LEARNING

    asyncio.run(scenario())


@pytest.mark.parametrize("fallback", [None, "knots"])
def test_without_either_it_is_not_served(fallback: str | None, tmp_path: Path) -> None:
    made_for(tmp_path, "abacus", fallback)

    async def scenario() -> None:
        async with world(tmp_path) as w:
            with pytest.raises(FerryError, match=f"{MODEL}/1: needs backend 'abacus': this ferry has scripted"):
                await w.registry.load(MODEL)

    asyncio.run(scenario())
