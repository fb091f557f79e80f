"""The engine's process: everything but the public port. `python -m server.engine_process DESCRIPTOR`, started by the supervisor."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from server.app import Ferry
from server.child_process import settings_of
from server.fleet.child import Line
from server.fleet.proxy import frames_address, web_address
from server.one_process import with_metrics_port
from server.web_server import WebServer, run_web_server, web_config


def main(descriptor: int) -> int:
    """Serve front ends until SIGTERM, or until the supervisor ends."""
    line = Line(descriptor)
    orders = line.orders()
    settings = settings_of(orders)
    ferry = Ferry(settings, frames_address(Path(orders.folder)))

    def run() -> int:
        address = web_address(Path(orders.folder))
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            server = WebServer(web_config(settings, ferry, lambda: ferry.fast_lane), ferry.drain, line.ready)
            ferry.broken = server.end_after_a_bug
            return run_web_server(server, [listener])

    return with_metrics_port(settings, ferry, run)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
