"""Who uses the card while a graph is recorded: the one who records it, and nobody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class RecordGate:
    """Any number of users, or one that records. ONNX Runtime records in CUDA's global mode: an allocation or a wait by another thread
    meanwhile fails, and spoils the record. Not reentrant: it is entered by slots and by who loads, never below them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n_users = 0
        self._n_waiting = 0
        self._is_recording = False

    @property
    def is_recording(self) -> bool:
        return self._is_recording

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Use the card, as others may. Who wants to record goes first, or there would always be a user."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_recording and not self._n_waiting)
            self._n_users += 1
        try:
            yield
        finally:
            with self._changed:
                self._n_users -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Use the card to record."""
        with self._changed:
            self._n_waiting += 1
            try:
                self._changed.wait_for(lambda: not self._is_recording and not self._n_users)
                self._is_recording = True
            finally:
                self._n_waiting -= 1
        try:
            yield
        finally:
            with self._changed:
                self._is_recording = False
                self._changed.notify_all()
