"""What a tensor costs the server in the body and in shared memory: `python -m tests.conformance.shared_memory_cost`.

Also what the copy by `pread` costs beside a mapping, which would have none but could be taken away under the server.
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from onnx import helper

from loadtests import cpu
from loadtests.closed_loop import drive
from loadtests.environment import environment
from loadtests.report import table, write_json
from loadtests.wire import infer_request
from server.api.shared_memory import FOLDER, Regions
from tests.child_server import ChildServer
from tests.models import onnx_bytes, publish_model

KEY = f"ferry-cost-{os.getpid()}"
SHAPES: Mapping[str, list[int]] = {"image": [3, 224, 224], "row": [64]}
IN, OUT = {"shared_memory_region": "in"}, {"shared_memory_region": "out", "shared_memory_byte_size": 4}


def first_element(shape: list[int]) -> bytes:
    """A model that does next to nothing with a large input: FP32 [batch, …] → its first element [batch, 1]."""
    flat = ["batch", int(np.prod(shape))]
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["all"]),
        helper.make_node("Slice", ["all", "start", "end", "axis"], ["y"]),
    ]
    constants = {"flat": np.array([-1, flat[1]]), "start": np.array([0]), "end": np.array([1]), "axis": np.array([1])}
    return onnx_bytes(nodes, [("x", "FP32", ["batch", *shape])], [("y", "FP32", ["batch", 1])], constants)


def shared_request(host: str, model: str, shape: list[int]) -> bytes:
    """An infer request with input and output in shared memory."""
    size = {"shared_memory_byte_size": 4 * int(np.prod(shape))}
    x = {"name": "x", "shape": [1, *shape], "datatype": "FP32", "parameters": IN | size}
    body = orjson.dumps({"inputs": [x], "outputs": [{"name": "y", "parameters": OUT}]})
    return f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def measure(server: ChildServer, requests: Mapping[str, bytes], rounds: int, n: int) -> dict[str, list[dict[str, float]]]:
    """Server CPU, rate and median latency of each way, interleaved."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in requests}
    for number in range(rounds + 1):  # the first one warms
        for name, request in requests.items():
            before = cpu.cpu_s(server.process.pid)
            result = drive("127.0.0.1", server.port, [request], connections=4, n_requests=n)
            assert result.answered == n, f"{name}: {result.refused or 'not answered'}"
            cpu_us = (cpu.cpu_s(server.process.pid) - before) / n * 1e6
            if number:
                found[name].append({"cpu_us": cpu_us, "per_second": result.throughput, "p50_ms": result.p50 * 1e3})
    return found


def copies(path: Path, n_bytes: int, n: int) -> dict[str, float]:
    """Microseconds: by `pread` into a fresh array; a copy out of a mapping into a fresh array; a look at every page of it."""
    regions = Regions(n_bytes, path.parent)
    regions.register("r", path.name, 0, n_bytes)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), n_bytes) as mapped:
        view = np.frombuffer(mapped, np.uint8)
        slot = regions.slot("r", 0, n_bytes, "x")
        found = {
            "pread": _median_us(slot.read, n),
            "copy out of a mapping": _median_us(view.copy, n),
            "mapping, not copied": _median_us(lambda: np.frombuffer(mapped, np.float32), n),
        }
        del view
    regions.unregister_all()
    return found


def _median_us(work: Callable[[], object], n: int) -> float:
    times = []
    for _ in range(n):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.conformance.shared_memory_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--n", type=int, default=2000, help="requests of each way in a round (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("loadtests/results"), help="folder for the JSON file (default: %(default)s)"
    )
    options = parser.parse_args()
    path = FOLDER / KEY
    content: dict[str, Any] = {
        "kind": "CPU of a tensor in the body and in shared memory",
        "command": f"python -m tests.conformance.shared_memory_cost --rounds {options.rounds} --n {options.n}",
        "environment": environment(),
    }
    try:
        path.touch(0o600)
        path.write_bytes(np.ones(3 * 224 * 224 + 1, np.float32).tobytes())
        content["copy_us"] = {name: copies(path, 4 * int(np.prod(shape)), 500) for name, shape in SHAPES.items()}
        content["wire"] = _over_the_wire(options)
    finally:
        path.unlink(missing_ok=True)
    print(_tables(content))
    print(f"written: {write_json(options.out, 'shared-memory', content)}")
    return 0


def _over_the_wire(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        repository.mkdir()
        for name, shape in SHAPES.items():
            publish_model(repository, name, first_element(shape), max_rows=4)
        with ChildServer(repository, Path(folder) / "log", "--shared-memory", "on") as server:
            size = (FOLDER / KEY).stat().st_size
            for name, offset, byte_size in (("in", 0, size - 4), ("out", size - 4, 4)):
                body = {"key": KEY, "offset": offset, "byte_size": byte_size}
                reply = server.call("POST", f"/v2/systemsharedmemory/region/{name}/register", body)
                assert reply.status == 200, reply
            return {name: measure(server, _requests(server, name), options.rounds, options.n) for name in SHAPES}


def _requests(server: ChildServer, model: str) -> dict[str, bytes]:
    host, shape = f"127.0.0.1:{server.port}", SHAPES[model]
    x = np.ones((1, *shape), np.float32)
    return {
        "binary in the body": infer_request(host, model, {"x": x}, binary=True),
        "shared memory": shared_request(host, model, shape),
    }


def _tables(content: Mapping[str, Any]) -> str:
    lines = [
        [
            f"{model}, {way}",
            *(f"{statistics.median(one[key] for one in rounds):,.1f}" for key in ("cpu_us", "per_second", "p50_ms")),
        ]
        for model, ways in content["wire"].items()
        for way, rounds in ways.items()
    ]
    copied = [[f"{model}, {way}", f"{us:.1f}"] for model, ways in content["copy_us"].items() for way, us in ways.items()]
    return "\n\n".join((table(("", "CPU us", "req/s", "p50 ms"), lines), table(("copy", "us"), copied)))


if __name__ == "__main__":
    sys.exit(main())
