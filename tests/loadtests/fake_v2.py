"""A slow, small V2 server for the models of `models.py`, as a command; what the benchmark is tested against."""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

MODELS: dict[str, dict[str, Any]] = {
    "digits": {
        "name": "digits",
        "versions": ["1", "2"],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}],
    },
    "minilm": {
        "name": "minilm",
        "versions": ["1"],
        "inputs": [{"name": name, "datatype": "INT64", "shape": [-1, -1]} for name in ("input_ids", "attention_mask")],
    },
}


class Handler(BaseHTTPRequestHandler):
    """JSON and binary inputs in, JSON outputs out."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        found = MODELS.get(self.path.removeprefix("/v2/models/"))
        ready = self.path == "/v2/health/ready"
        self._answer(*((200, {"ready": True}) if ready else (200, found) if found else (404, {"error": "unknown"})))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        n_json = int(self.headers.get("Inference-Header-Content-Length", len(body)))
        first = json.loads(body[:n_json])["inputs"][0]
        if "digits" in self.path:
            x = np.array(first["data"], "f4") if "data" in first else np.frombuffer(body[n_json:], "f4")
            output = {"name": "y", "datatype": "FP32", "shape": [1, 64], "data": (x + x).tolist()}
        else:
            output = {"name": "sentence", "datatype": "INT64", "shape": [1, 1], "data": [max(first["data"])]}
        self._answer(200, {"model_name": "m", "outputs": [output]})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def main() -> None:
    parser = argparse.ArgumentParser()
    for flag in ("--repository", "--host", "--port"):
        parser.add_argument(flag)
    arguments = parser.parse_args()
    ThreadingHTTPServer((arguments.host, int(arguments.port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
