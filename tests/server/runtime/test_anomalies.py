import pytest

from server.core.types import Drift, ModelKey
from server.runtime.anomalies import CALM_S, RUN_LEAST, Anomaly, Seen, Watch
from server.telemetry.model_stats import Outcomes

KEY = ModelKey("m", 1, 1)
OTHER = ModelKey("other", 1, 2)


def look(
    watch: Watch, at: float, answered: int = 0, late: int = 0, refused: int = 0, lost: int = 0, drift: Drift = Drift.NONE,
    key: ModelKey = KEY,
) -> list[Anomaly]:  # fmt: skip
    found = watch.look([Seen(key, Outcomes(answered, late, refused, lost), drift)], at)
    assert all(model == key for _, model in found)
    return [anomaly for anomaly, _ in found]


def test_a_lost_instance_is_told_each_time() -> None:
    watch = Watch()
    assert look(watch, 1.0, lost=1) == [Anomaly.INSTANCE_LOST]
    assert look(watch, 2.0, lost=1) == []
    assert look(watch, 3.0, lost=2) == [Anomaly.INSTANCE_LOST]


def test_a_drift_is_told_when_it_begins_or_turns() -> None:
    watch = Watch()
    assert look(watch, 1.0, drift=Drift.SLOWER) == [Anomaly.DRIFT]
    assert look(watch, 2.0, drift=Drift.SLOWER) == []
    assert look(watch, 3.0, drift=Drift.FASTER) == [Anomaly.DRIFT]
    assert look(watch, 4.0, drift=Drift.NONE) == []


@pytest.mark.parametrize(("anomaly", "field"), [(Anomaly.REFUSED, "refused"), (Anomaly.LATE, "late")])
def test_a_run_is_told_once_until_there_was_calm(anomaly: Anomaly, field: str) -> None:
    watch = Watch()
    assert look(watch, 1.0, answered=100) == []
    count = 0
    for second in range(2, 60):
        count += RUN_LEAST
        found = look(watch, float(second), answered=100 * second, **{field: count})
        assert found == ([anomaly] if second == 2 else [])
    assert look(watch, 60.0 + CALM_S, answered=100_000, **{field: count}) == []
    assert look(watch, 61.0 + CALM_S, answered=100_000, **{field: count + RUN_LEAST}) == [anomaly]


def test_a_few_among_many_or_a_few_at_all_are_no_run() -> None:
    watch = Watch()
    assert look(watch, 1.0, answered=1000, refused=RUN_LEAST, late=RUN_LEAST) == []
    assert look(watch, 2.0, answered=1000, refused=2 * RUN_LEAST - 1) == []
    assert look(watch, 3.0, answered=1000, refused=3 * RUN_LEAST - 1) == [Anomaly.REFUSED]


def test_a_model_that_was_reloaded_begins_anew() -> None:
    watch = Watch()
    look(watch, 1.0, answered=500, lost=3)
    assert look(watch, 2.0, answered=5, lost=1, key=OTHER) == [Anomaly.INSTANCE_LOST]
