"""What a gRPC call costs the client, in CPU: the load tester's frames beside the library's two ways, against one bare echo.

`python -m tests.measure.grpc_clients`; each client runs in a process of its own, in turn, 16 calls at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from loadtests.child import HOST, free_port
from loadtests.closed_loop import drive
from loadtests.environment import environment
from loadtests.http2 import call_request
from loadtests.protocols import Protocol
from loadtests.report import write_json

METHOD = "/echo.Echo/Call"
BODY = bytes(400)
CALLS = 16


async def echo(port: int) -> None:
    """A bare asyncio server."""

    async def answer(data: bytes, _: Any) -> bytes:
        return data

    server = grpc.aio.server()
    handlers = {"Call": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    server.add_insecure_port(f"{HOST}:{port}")
    await server.start()
    await server.wait_for_termination()


def frames(port: int, duration_s: float) -> int:
    headers = {":method": "POST", ":scheme": "http", ":path": METHOD, ":authority": HOST, "te": "trailers"}
    request = call_request({**headers, "content-type": "application/grpc"}, BODY)
    return drive(HOST, port, [request], connections=CALLS, duration_s=duration_s, protocol=Protocol.GRPC).answered


def library_asyncio(port: int, duration_s: float) -> int:
    async def run() -> int:
        n, stop_at = 0, time.perf_counter() + duration_s
        async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
            call = channel.unary_unary(METHOD)

            async def go() -> None:
                nonlocal n
                while time.perf_counter() < stop_at:
                    await call(BODY)
                    n += 1

            await asyncio.gather(*(go() for _ in range(CALLS)))
        return n

    return asyncio.run(run())


def library_futures(port: int, duration_s: float) -> int:
    n, stop_at, over = 0, time.perf_counter() + duration_s, threading.Semaphore(0)
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        call = channel.unary_unary(METHOD)

        def go(ended: Any) -> None:
            nonlocal n
            n += ended is not None
            if time.perf_counter() < stop_at:
                call.future(BODY).add_done_callback(go)
            else:
                over.release()

        for _ in range(CALLS):
            go(None)
        for _ in range(CALLS):
            over.acquire()
    return n


CLIENTS = {"frames": frames, "grpc.aio": library_asyncio, "futures": library_futures}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.measure.grpc_clients", description=__doc__)
    parser.add_argument("--client", choices=CLIENTS, help="run one of them against --port and print CPU µs per call")
    parser.add_argument("--serve", type=int, help="be the server, on this port")
    parser.add_argument("--port", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--round-s", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=Path("loadtests/results"))
    options = parser.parse_args(arguments)
    if options.serve is not None:
        asyncio.run(echo(options.serve))
    elif options.client is not None:
        CLIENTS[options.client](options.port, 0.3)
        before_s = time.process_time()
        n = CLIENTS[options.client](options.port, options.round_s)
        print((time.process_time() - before_s) / n * 1e6)
    else:
        compare(options)
    return 0


def compare(options: argparse.Namespace) -> None:
    port, me = free_port(), [sys.executable, "-m", "tests.measure.grpc_clients"]
    found: dict[str, list[float]] = {name: [] for name in CLIENTS}
    with subprocess.Popen([*me, "--serve", str(port)]) as server:
        grpc.channel_ready_future(grpc.insecure_channel(f"{HOST}:{port}")).result(30)
        try:
            for _ in range(options.rounds):
                for name, rounds in found.items():
                    command = [*me, "--client", name, "--port", str(port), "--round-s", str(options.round_s)]
                    rounds.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        finally:
            server.terminate()
    for name, rounds in found.items():
        print(f"{name:10} {statistics.median(rounds):6.1f} us of CPU per call (median of {len(rounds)})")
    print(f"written: {write_json(options.out, 'grpc-clients', {'environment': environment(), 'cpu_us_per_call': found})}")


if __name__ == "__main__":
    sys.exit(main())
