"""Writes the flight recorder's ring to files when something goes wrong, and hands it out on request. The ring itself lives in
server.recording; the engine feeds it."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from server import __version__
from server.core.lane import Lane
from server.core.resident_lane import ResidentLane
from server.core.types import Drift
from server.recording.file import Header, pieces
from server.runtime import reply_time
from server.runtime.anomalies import LOOK_EVERY_S, Anomaly, Seen, Watch
from server.runtime.clock import Clock, calendar_ms
from server.runtime.engine import Engine
from server.runtime.served import ServedModel
from server.runtime.served_decoder import ServedDecoder
from server.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

N_KEPT = 8
LEAST_BETWEEN_S = 60.0
"""For each kind of anomaly a file at most so often, and the last few are kept: up to some 35 MB each on a busy server."""

_NAMES = "ferry-*.jsonl"


class Recorder:
    """Off the request path: it looks at sums once a second, and reads the ring when it is asked to."""

    def __init__(
        self, engine: Engine, metrics: Metrics, clock: Clock, folder: Path | None, calendar: Callable[[], int] = calendar_ms
    ) -> None:
        """`folder`: for the recordings of anomalies; None: none is written. `calendar`: milliseconds since 1970, for their stamps."""
        self._engine = engine
        self._metrics = metrics
        self._clock = clock
        self._folder = folder
        self._calendar = calendar
        self._watch = Watch()
        self._written_at: dict[Anomaly, float] = {}

    def pieces(self, why: str) -> Iterator[bytes]:
        """A recording up to this moment. Iterate in whatever thread."""
        header = Header(__version__, why, self._clock(), self._calendar(), reply_time.LEAST_S, reply_time.SHARE)
        return pieces(header, self._engine.ring.chunks())

    async def watch(self, models: Callable[[], Iterable[ServedModel | ServedDecoder]]) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look(models())
            except Exception:  # whatever goes wrong here, requests are served
                log.exception("the flight recorder failed: a bug in ferry")

    async def look(self, models: Iterable[ServedModel | ServedDecoder]) -> Path | None:
        """Write a recording if something is newly wrong, and was not for a while; where it is."""
        now = self._clock()
        found = [
            one for one in self._watch.look([_seen(self._engine, model) for model in models], now) if self._is_due(one[0], now)
        ]
        if not found or self._folder is None:
            return None
        self._written_at |= {anomaly: now for anomaly, _ in found}
        anomaly = found[0][0]
        why = ", ".join(f"{one.value}: {model}" for one, model in found)
        name = f"ferry-{_stamp(self._calendar())}-{anomaly.value}.jsonl"
        try:
            path = await asyncio.to_thread(_write, self._folder, name, self.pieces(why))
        except OSError as error:
            log.error("%s: no recording could be written: %s; choose another folder with --recordings, or off", why, error)
            return None
        self._metrics.recorded(anomaly.value)
        log.warning("%s; a recording is in %s: ferry explain --file %s --list %s", why, path, path, _LIST[anomaly])
        return path

    def _is_due(self, anomaly: Anomaly, now: float) -> bool:
        return now - self._written_at.get(anomaly, float("-inf")) >= LEAST_BETWEEN_S


_LIST = {Anomaly.INSTANCE_LOST: "slow", Anomaly.DRIFT: "slow", Anomaly.REFUSED: "refused", Anomaly.LATE: "late"}


def folder_of(setting: Path | str) -> Path | None:
    """What the setting `recordings` means: a folder of this user's in the system's temporary one, none, or the folder itself."""
    if setting == "off":
        return None
    return Path(tempfile.gettempdir()) / f"ferry-recordings-{os.getuid()}" if setting == "temp" else Path(setting)


def _seen(engine: Engine, model: ServedModel | ServedDecoder) -> Seen:
    lane: Lane[Any] | ResidentLane[Any] | None
    if isinstance(model, ServedDecoder):
        lane = engine.resident_lane(model.key)
    else:
        lane = None if model.inline else engine.lane(model.key)
    drift = Drift.NONE if lane is None else lane.forecast.drift
    return Seen(model.key, model.stats.outcomes, drift)


def _stamp(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1e3, UTC)
    return f"{at:%Y%m%dT%H%M%S}.{ms % 1000:03d}Z"


def _write(folder: Path, name: str, parts: Iterable[bytes]) -> Path:
    """Readable by this user alone, whole or not at all; older ones of ours beyond the last few go. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.lstat().st_uid != os.getuid() and folder.parent == Path(tempfile.gettempdir()):
        raise PermissionError(f"{folder} belongs to somebody else")
    draft = folder / f".{name}"
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.writelines(parts)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    path = draft.rename(folder / name)
    for old in sorted(folder.glob(_NAMES))[:-N_KEPT]:
        old.unlink(missing_ok=True)
    return path
