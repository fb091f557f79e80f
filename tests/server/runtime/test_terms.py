"""Which placement a model is served at, on this machine and after another one."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from server.backends.scripted import Script
from server.contract.accelerator import Accelerator
from server.contract.layout import read_version
from server.contract.profile import Cell, Placement, Profile
from server.contract.profiles import Profiles
from server.contract.wants import read_wants
from server.runtime.rationed import REQUEST_S, cost_s
from server.runtime.terms import BRIEF_S, CARD, CPU, terms_of, terms_to_learn
from tests.server.runtime.scripted_world import MODEL, doubled, publish_fake, world
from tests.server.runtime.test_measuring import HERE, foreign, law, measured, missing


@pytest.mark.parametrize(
    ("placement", "cores", "expected"),
    [((1, 4), 4, "1x{n}"), ((4, 1), 4, "{n}x1"), ((1, 1), 4, "1x1"), ((1, 1), 1, "1x{n}")],
)
def test_a_placement_from_another_machine_says_what_kind_of_placement_is_good(
    placement: tuple[int, int], cores: int, expected: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        foreign(tmp_path, cores=cores)
        path = tmp_path / MODEL / "1" / "profile.json"
        profile = json.loads(path.read_text())
        profile["placement"] = {"instances": placement[0], "threads": placement[1]}
        path.write_text(json.dumps(profile))
        async with world(tmp_path, Script(doubled, law=law())) as w:
            assert str(w.registry.find(MODEL).placement) == expected.format(n=HERE.cores)

    asyncio.run(scenario())


def test_the_placement_is_that_for_the_slo_of_the_moment(tmp_path: Path) -> None:
    """Changing the SLO and loading again takes another placement, and the session for it."""

    def at(instances: int, threads: int, row_s: float) -> Profile:
        cells = tuple(Cell(rows, 0, row_s * rows, row_s * rows, row_s * rows, 5, 0) for rows in (1, 8))
        return Profile(HERE, Placement(instances, threads), cells)

    async def scenario() -> None:
        publish_fake(tmp_path)
        profiles = Profiles((at(2, 1, 0.010), at(1, 2, 0.006)))
        (tmp_path / MODEL / "1" / "profile.json").write_text(json.dumps(profiles.to_json()))
        async with world(tmp_path, Script(doubled)) as w:
            for slo, placement in (("20s", "2x1"), ("14ms", "1x2"), ("2s", "2x1")):
                (tmp_path / MODEL / "model.toml").write_text(f'slo = "{slo}"\n')
                model = await w.registry.load(MODEL)
                assert str(model.placement) == placement
                assert model.terms.why.startswith(f"{placement} by the rate within {slo}")

    if HERE.cores >= 2:
        asyncio.run(scenario())
    else:
        pytest.skip("the machine has one core, so neither fits")


def test_a_client_is_charged_for_the_request_alone_while_it_is_not_known_what_rows_take(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        missing(tmp_path)
        async with world(tmp_path, Script(doubled, law=law())) as w:
            model = w.registry.find(MODEL)
            assert cost_s(model, 8, 0) == REQUEST_S
            await measured(w)
            assert cost_s(model, 8, 0) > REQUEST_S

    asyncio.run(scenario())


def test_brief_batches_of_a_slower_model_are_known(tmp_path: Path) -> None:
    """By the median: a slow run while it was measured must not change where a fast model runs."""
    files = read_version(tmp_path / MODEL, publish_fake(tmp_path))
    wants = read_wants(tmp_path / MODEL / "model.toml")
    cells = tuple(Cell(rows, 0, rows * BRIEF_S / 4, 0.5, 0.9, 5, 0) for rows in (1, 8))
    terms = terms_of(files.manifest, wants, Profiles((Profile(HERE, Placement(1, 1), cells),)))
    assert (terms.inline, terms.device, terms.limits.ahead) == (False, CPU, 1)
    assert [rows for rows in range(1, 9) if terms.costs.is_brief(rows, 0)] == [1, 2, 3]  # type: ignore[union-attr]


A_CARD = Accelerator("A card", "9.0", "570.1", "12.8")


def test_models_on_a_card_share_it_and_wait_beside_the_event_loop(tmp_path: Path) -> None:
    files = read_version(tmp_path / MODEL, publish_fake(tmp_path))
    quick = tuple(Cell(rows, 0, 1e-5, 1e-5, 1e-5, 5, 0) for rows in (1, 8))
    wants = read_wants(tmp_path / MODEL / "model.toml")
    on_cpu = terms_of(files.manifest, wants, Profiles((Profile(HERE, Placement(1, 1), quick),)))
    on_card = terms_of(files.manifest, wants, Profiles((Profile(replace(HERE, accelerator=A_CARD), Placement(1, 1), quick),)))
    assert (on_cpu.inline, on_cpu.device, on_cpu.limits.ahead) == (True, None, 0)
    assert not any(on_card.costs.is_brief(rows, 0) for rows in (1, 8))  # type: ignore[union-attr]
    assert (on_card.inline, on_card.device, on_card.limits.ahead) == (False, CARD, 1)


@pytest.mark.parametrize("elsewhere", [None, Placement(1, 4)])
def test_on_a_card_two_batches_are_in_flight_until_more_is_known(elsewhere: Placement | None, tmp_path: Path) -> None:
    files = read_version(tmp_path / MODEL, publish_fake(tmp_path))
    assert files.profiles is not None
    profiles = None if elsewhere is None else Profiles((replace(files.profiles.profiles[0], placement=elsewhere),))
    wants = read_wants(tmp_path / MODEL / "model.toml")
    terms = terms_to_learn(files.manifest, wants, replace(HERE, accelerator=A_CARD), profiles)
    assert (str(terms.placement), terms.device) == ("2x1", CARD)
