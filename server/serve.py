"""The verb `serve`: settings from flags, file and environment, then the server until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from server.api.http_protocol import FerryProtocol
from server.api.patience import Patience
from server.app import Ferry
from server.settings import Settings, SettingsError, read_settings, tokenize_on_one_thread
from server.telemetry.scrape import ScrapeServer

log = logging.getLogger(__name__)


class ServeVerb:
    """`ferry serve`."""

    help = "serve a model repository over HTTP"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """One flag per setting; a flag that is not given leaves the decision to the environment, the file, the default."""
        parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
        for name, field in Settings.model_fields.items():
            default = f" (default: {field.default})" if field.default is not None else ""
            parser.add_argument(
                "--" + name.replace("_", "-"), dest=name, default=argparse.SUPPRESS, metavar="VALUE",
                help=f"{field.description}{default}",
            )  # fmt: skip

    def run(self, args: argparse.Namespace) -> int:
        flags: dict[str, Any] = {name: getattr(args, name) for name in Settings.model_fields if hasattr(args, name)}
        try:
            settings = read_settings(flags, args.config)
        except SettingsError as error:
            print(f"ferry: {error}", file=sys.stderr)
            return 2
        if not settings.repository.is_dir():
            print(f"ferry: no model repository at {settings.repository}; make one with `ferry optimize`", file=sys.stderr)
            return 2
        return serve(settings)


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT: then no new connections, accepted requests are answered, and it returns 0."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    tokenize_on_one_thread()
    ferry = Ferry(settings)
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
        return _run(settings, ferry)
    finally:
        if scrape is not None:
            scrape.close()


class DrainingServer(uvicorn.Server):
    """uvicorn, with gRPC draining while HTTP does."""

    def __init__(self, ferry: Ferry, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ferry = ferry

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        draining = asyncio.create_task(self._ferry.drain())
        await super().shutdown(sockets)
        await draining


def _run(settings: Settings, ferry: Ferry) -> int:
    """One server on the main port, until a signal ends it."""
    patience = Patience(settings.receive_timeout_s)
    server = DrainingServer(
        ferry,
        uvicorn.Config(
            ferry,
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http=partial(FerryProtocol, patience, lambda: ferry.fast_lane),  # type: ignore[arg-type]  # any callable will do
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=settings.idle_timeout_s,
            timeout_graceful_shutdown=settings.drain_timeout_s,
        ),
    )
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: sys.exit(0))  # uvicorn raises the signal again when it has drained
    server.run()
    return 0 if server.started else 1
