"""`ferry serve` with a model that sleeps alpha · rows + beta and uses no processor, to see the scheduler alone on the wire.

`python -m tests.measure.serve_paced --port 8001 --alpha-ms 1 --beta-ms 4 --slo-ms 108` serves the model `paced` (FP32 x [batch, 1] → y = 2x). No
part of the product: everything but the model is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from server import app
from server.backends.base import Array, Backends
from server.backends.scripted import Inputs, Script, ScriptedBackend
from server.contract.layout import model_names
from server.serve import serve
from server.settings import read_settings
from tests.server.runtime.scripted_world import doubled, publish_fake

MODEL = "paced"
LEARNING = 0.05
"""Weight of the newest sleep in what is known of their lateness."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser("python -m tests.measure.serve_paced", description=__doc__)
    parser.add_argument("--port", default="8000")
    parser.add_argument("--alpha-ms", type=float, default=1.0, help="per row (default: %(default)s)")
    parser.add_argument("--beta-ms", type=float, default=4.0, help="per batch (default: %(default)s)")
    parser.add_argument("--slo-ms", type=float, help="(default: the time of three full batches)")
    parser.add_argument("--max-rows", type=int, default=32)
    parser.add_argument("--instances", type=int, default=1)
    parser.add_argument(
        "--repository", type=Path, help="where it is published, if it is not there (default: nowhere that stays)"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.repository or Path(scratch)
        publish_paced(folder, options)
        flags = {"repository": folder, "port": options.port, "metrics_port": "0", "grpc_port": "0"}
        app.find_backends = lambda: Backends({ScriptedBackend.name: ScriptedBackend(paced())})  # type: ignore[attr-defined]
        return serve(read_settings(flags, None))


def publish_paced(folder: Path, options: argparse.Namespace) -> None:
    """The version, unless it stands there."""
    folder.mkdir(parents=True, exist_ok=True)
    if MODEL in model_names(folder):
        return
    alpha_s, beta_s, rows = options.alpha_ms / 1e3, options.beta_ms / 1e3, options.max_rows
    slo_s = 3 * (alpha_s * rows + beta_s) if options.slo_ms is None else options.slo_ms / 1e3
    publish_fake(folder, MODEL, slo_s, rows, options.instances, beta_s, alpha_s)


class Pace:
    """Sleeps as long as it is told: how much longer the operating system takes is learnt, and taken off beforehand."""

    def __init__(self) -> None:
        self._late_s = 0.0

    def wait(self, seconds: float) -> None:
        """One batch's time."""
        began_at = time.perf_counter()
        time.sleep(max(0.0, seconds - self._late_s))
        self._late_s += LEARNING * (time.perf_counter() - began_at - seconds)


def paced() -> Script:
    """Answers, sleeps, and keeps no batch."""

    def answer(inputs: Inputs) -> Sequence[Array]:
        script.batches.clear()
        return doubled(inputs)

    script = Script(answer, wait=Pace().wait)
    return script


if __name__ == "__main__":
    sys.exit(main())
