"""The tests' models on a real server, for clients that are run by hand: `python -m tests.conformance.serve_tiny PORT`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from server.serve import serve
from server.settings import read_settings
from tests.models import publish_all


def main(port: str) -> int:
    """Serve until SIGTERM or SIGINT."""
    with tempfile.TemporaryDirectory() as folder:
        publish_all(Path(folder))
        flags = {"repository": folder, "port": port, "metrics_port": "0", "grpc_port": "0", "shared_memory": "on"}
        return serve(read_settings(flags, None))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
