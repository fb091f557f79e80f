"""Locust users for a V2 server: `locust -f loadtests/locustfile.py --host http://127.0.0.1:8000`, model in FERRY_MODEL.

Locust is a closed loop: its latencies hide stalls, and a user that waits offers no load. For a promise use `ferry loadtest`.
"""

# mypy: ignore-errors
# Locust is no dependency of ours, so there are no types to check against.

from __future__ import annotations

import itertools
from typing import Any

from locust import FastHttpUser, constant, events, task

from loadtests.inputs import Asked, prepare
from loadtests.target import metadata, target
from loadtests.wire import infer_request

_PATH = "/v2/models/{}/infer"


@events.init_command_line_parser.add_listener
def _flags(parser: Any) -> None:
    parser.add_argument("--model", env_var="FERRY_MODEL", default="digits", help="the model to ask")
    parser.add_argument("--lengths", default="fixed:16", help="of free axes, as in `ferry loadtest`")


class V2User(FastHttpUser):
    """Asks one model over and over with random rows as its metadata wants them."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Prepare the bodies once per user."""
        options = self.environment.parsed_options
        to = target(self.host, options.model)
        rows = prepare(metadata(to), Asked(None, 16, 1, options.lengths, seed=0))
        requests = (infer_request(to.authority, to.model, row, binary=False) for row in rows)
        self._path = _PATH.format(options.model)
        self._bodies = itertools.cycle([request.partition(b"\r\n\r\n")[2] for request in requests])

    @task
    def infer(self) -> None:
        """One request; anything but 200 is a failure in Locust's words."""
        self.client.post(self._path, data=next(self._bodies), headers={"Content-Type": "application/json"})
