"""Whether every query of the Grafana dashboard returns data: a real ferry with traffic, scraped by a real Prometheus.

`python -m tests.measure.dashboard` needs `prometheus` on the path and takes half a minute. The card is a stand-in's reading, for its queries are
to be asked too; everything else is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

from loadtests.child import HOST, free_port, running
from server import app
from server.backends.base import Backends
from server.backends.catalog import find_backends
from server.backends.nvidia import CardReading
from server.backends.scripted import ScriptedBackend
from server.serve import serve
from server.settings import read_settings
from tests.deploy.panels import ROOT, Query, queries
from tests.measure.serve_paced import paced
from tests.server.runtime.scripted_world import publish_fake
from tests.talker import publish_talker

PACED, TALKER = "paced", "talker"
WINDOW = "10s"
READING = CardReading("stand-in", "GPU-0", 0.5, 40 << 30, 80 << 30, 350.0, 700.0)
NEVER_HERE = {"Calculation of a batch and tokenization, p99: {{model}} tokens"}
"""Lines that stay without a number, because none of the models takes texts that become tensors."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What Prometheus has for one line: its series, and those of them that are numbers."""

    query: Query
    n_series: int
    n_numbers: int

    @property
    def name(self) -> str:
        return f"{self.query.panel}: {self.query.legend}"

    @property
    def is_well(self) -> bool:
        return self.n_numbers > 0 or (self.n_series > 0 and self.name in NEVER_HERE)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every line has data."""
    parser = argparse.ArgumentParser("python -m tests.measure.dashboard", description=__doc__)
    parser.add_argument("--traffic-s", type=float, default=15.0, help="before Prometheus is asked (default: %(default)s)")
    parser.add_argument("--serve", nargs=2, metavar=("REPOSITORY", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        return serve_both(Path(options.serve[0]), options.serve[1])
    if shutil.which("prometheus") is None:
        parser.error("there is no `prometheus` on the path: install it (Debian: the package `prometheus`)")
    answers = check(options.traffic_s)
    for one in answers:
        print(f"{'ok  ' if one.is_well else 'NONE'} {one.n_numbers:3} of {one.n_series:3} series  {one.name}")
    bad = [one for one in answers if not one.is_well]
    print(f"{len(answers) - len(bad)} of {len(answers)} lines have data")
    return 1 if bad else 0


def serve_both(folder: Path, port: str) -> int:
    """ferry with a model that sleeps, one that generates, and a card's figures."""
    found = find_backends()
    backends = Backends({**found.usable, ScriptedBackend.name: ScriptedBackend(paced())}, found.missing, found.decoders)
    app.find_backends = lambda: backends  # type: ignore[attr-defined]
    app._watch_card = lambda metrics: metrics.watch_card(lambda: READING)
    flags = {"repository": folder, "port": port, "metrics_port": "0", "grpc_port": "0", "recordings": "off"}
    return serve(read_settings(flags, None))


def check(traffic_s: float) -> list[Answer]:
    """Start everything, let requests come while Prometheus scrapes, and ask each line's query."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        scratch = Path(name)
        publish_fake(scratch / "models", PACED, slo_s=0.05, batch_s=0.004, row_s=0.001)
        publish_talker(scratch / "models")
        port, prometheus = free_port(), free_port()
        command = (sys.executable, "-m", "tests.measure.dashboard", "--serve", str(scratch / "models"), str(port))
        stack.enter_context(running(command, port, ready_path="/v2/health/ready", folder=ROOT))
        command = prometheus_command(scratch, port, prometheus)
        stack.enter_context(running(command, prometheus, ready_path="/-/ready"))
        stack.enter_context(traffic(port))
        time.sleep(traffic_s)
        return [ask(prometheus, query) for query in queries()]


def prometheus_command(scratch: Path, port: int, own_port: int) -> tuple[str, ...]:
    """The configuration that is deployed, with its rules, of this server and every second."""
    content = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    changed = content.replace("ferry:8002", f"{HOST}:{port}").replace("scrape_interval: 5s", "scrape_interval: 1s")
    assert changed.count("1s") == 1, "the scrape interval is no longer where it was"
    assert f"{HOST}:{port}" in changed, "the target is no longer where it was"
    shutil.copy(ROOT / "deploy" / "prometheus" / "alerts.yml", scratch)
    (scratch / "prometheus.yml").write_text(changed)
    return (
        "prometheus", f"--config.file={scratch / 'prometheus.yml'}", f"--storage.tsdb.path={scratch / 'data'}",
        f"--web.listen-address={HOST}:{own_port}",
    )  # fmt: skip


@contextmanager
def traffic(port: int) -> Iterator[None]:
    """Requests to both models, more at a time than the first can answer within its SLO, until the end. Raises what a client raised."""
    infer = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
    complete = {"model": TALKER, "prompt": "the same beginning of every prompt", "max_tokens": 16, "temperature": 0}
    stop, raised = threading.Event(), list[BaseException]()

    def work(path: str, body: dict[str, object]) -> None:
        connection = HTTPConnection(HOST, port, timeout=30.0)
        try:
            while not stop.is_set():
                connection.request("POST", path, json.dumps(body))
                response = connection.getresponse()
                text = response.read()
                if response.status not in (200, 503):
                    raise RuntimeError(f"{path} answered {response.status}: {text[:300]!r}")
        except BaseException as error:  # told by the thread that waits
            raised.append(error)
        finally:
            connection.close()

    clients = [threading.Thread(target=work, args=(f"/v2/models/{PACED}/infer", infer)) for _ in range(12)]
    clients += [threading.Thread(target=work, args=("/v1/completions", complete)) for _ in range(2)]
    for one in clients:
        one.start()
    try:
        yield
    finally:
        stop.set()
        for one in clients:
            one.join()
    if raised:
        raise raised[0]


def ask(port: int, query: Query) -> Answer:
    """Raises RuntimeError, with Prometheus' words, for a query that it refuses."""
    connection = HTTPConnection(HOST, port, timeout=30.0)
    connection.request("GET", f"/api/v1/query?query={quote(query.filled(window=WINDOW))}")
    reply = json.loads(connection.getresponse().read())
    connection.close()
    if reply["status"] != "success":
        raise RuntimeError(f"{query.panel}: {reply['error']}")
    values = [float(one["value"][1]) for one in reply["data"]["result"]]
    return Answer(query, len(values), sum(math.isfinite(value) for value in values))


if __name__ == "__main__":
    sys.exit(main())
