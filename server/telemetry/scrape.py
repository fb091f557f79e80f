"""Metrics on a port of their own, answered by threads of their own: the event loop and its queues play no part."""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import Any, ClassVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""A client that sends or reads nothing for so long loses its connection."""


class ScrapeServer:
    """Serves GET /metrics until `close`. Raises OSError when the port is taken."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        class Handler(_Handler):
            metrics = registry

        kind = _SixServer if ":" in host else _Server
        self._server = kind((host, port), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port. Blocks for up to half a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.warning("a scrape from %s failed", client_address, exc_info=True)


class _SixServer(_Server):
    address_family = AF_INET6


class _Handler(BaseHTTPRequestHandler):
    metrics: ClassVar[CollectorRegistry]
    protocol_version = "HTTP/1.0"  # one request per connection: a scrape comes every few seconds
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        if self.path.partition("?")[0] == "/metrics":
            self._reply(200, CONTENT_TYPE_LATEST, generate_latest(self.metrics))
        else:
            self._reply(404, "application/json", json.dumps({"error": "only GET /metrics is here"}).encode())

    def version_string(self) -> str:
        return "ferry"

    def log_message(self, format: str, *args: object) -> None:
        """No access log."""

    def _reply(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
