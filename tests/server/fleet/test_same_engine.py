"""The engine's own tests once more, asked through a front end's connection: one interface, two worlds."""

from __future__ import annotations

import pytest

from tests.server.fleet.far_world import far_infer_routes
from tests.server.runtime.test_classes import *  # noqa: F403
from tests.server.runtime.test_engine_batching import *  # noqa: F403
from tests.server.runtime.test_engine_outcomes import *  # noqa: F403

# Models that take text are in no front end's table.
del test_texts_get_their_tokens_by_class_and_so_does_the_scheduler  # noqa: F821
del test_an_urgent_text_is_not_refused_for_those_it_overtakes  # noqa: F821

# What a front end sends before it has heard that a model goes is still accepted and answered: see test_far_engine.
del test_closing_answers_everything_that_was_accepted_and_gives_the_memory_back  # noqa: F821
del test_unloading_with_requests_in_flight_answers_them_and_refuses_newcomers  # noqa: F821


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.server.runtime.scripted_world.infer_routes", far_infer_routes)
