"""A server in one process: HTTP, gRPC, the engine and the metrics' own port."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from server.api.cors import with_cors
from server.api.keys import keys_of, with_keys
from server.app import Ferry
from server.settings import Settings
from server.telemetry.scrape import ScrapeServer
from server.web_server import WebServer, run_web_server, web_config

log = logging.getLogger(__name__)


def serve_in_one_process(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    ferry = Ferry(settings)
    app = with_cors(with_keys(ferry, keys_of(settings.api_keys, settings.admin_token)), settings.cors_origins)

    def run() -> int:
        server = WebServer(web_config(settings, app, lambda: ferry.fast_lane), ferry.drain)
        ferry.broken = server.end_after_a_bug
        return run_web_server(server)

    return with_metrics_port(settings, ferry, run)


def with_metrics_port(settings: Settings, ferry: Ferry, run: Callable[[], int]) -> int:
    """`run`, while the metrics are also on their own port. 1 when that port was asked for and is taken."""
    scrape: ScrapeServer | None = None
    try:
        scrape = ScrapeServer(settings.host, settings.metrics_port, ferry.metrics.registry)
        log.info("metrics also on http://%s:%d/metrics", settings.host, scrape.port)
    except OSError as error:
        problem = f"no metrics on port {settings.metrics_port}: {error.strerror}; choose another with --metrics-port"
        if "metrics_port" in settings.model_fields_set:
            print(f"ferry: {problem}", file=sys.stderr)
            return 1
        log.warning("%s; /metrics on the main port works all the same", problem)
    try:
        return run()
    finally:
        if scrape is not None:
            scrape.close()
