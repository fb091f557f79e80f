"""How soon a child that died is started again, and when it is given up. No process and no clock here."""

from __future__ import annotations

STEADY_S = 10.0
"""Who lived so long is started again at once."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0

MOST_FAILED_STARTS = 5
"""So many starts in a row that did not get ready end everything; before the first success, one is enough."""


class Restarts:
    """The history of one child."""

    def __init__(self) -> None:
        self._was_ever_ready = False
        self._n_failed = 0
        self._pause_s = 0.0

    def pause_s(self, lived_s: float, was_ready: bool) -> float | None:
        """Seconds to wait before the next start of a child that lived so long; None: give it up."""
        self._was_ever_ready |= was_ready
        self._n_failed = 0 if was_ready else self._n_failed + 1
        if self._n_failed >= (MOST_FAILED_STARTS if self._was_ever_ready else 1):
            return None
        if was_ready and lived_s >= STEADY_S:
            self._pause_s = 0.0
            return 0.0
        pause_s = self._pause_s
        self._pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * pause_s))
        return pause_s
