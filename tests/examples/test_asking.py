"""Refused requests are asked again until they have an answer; failures are not."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from examples.asking import MOST_ROUNDS, ask
from loadtests.wire import infer_request

HOST = "127.0.0.1"


@contextmanager
def server(refusals: dict[int, int], broken: int | None = None) -> Iterator[tuple[int, Counter[int]]]:
    """Echoes the one number of a request, after refusing it as often as `refusals` says; 500 for `broken`."""
    asked: Counter[int] = Counter()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            number = int(np.ravel(body["inputs"][0]["data"])[0])
            with lock:
                asked[number] += 1
                refused = asked[number] <= refusals.get(number, 0)
            status = 500 if number == broken else 503 if refused else 200
            output = {"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [float(number)]}
            answer = json.dumps({"outputs": [output]} if status == 200 else {"error": "not now"}).encode()
            self.send_response(status)
            if refused:
                self.send_header("Retry-After", "0.01")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer((HOST, 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield listening.server_address[1], asked
        finally:
            listening.shutdown()
            thread.join()


def requests(n: int) -> list[bytes]:
    return [infer_request(HOST, "m", {"x": np.array([[number]], np.float32)}, binary=False) for number in range(n)]


def test_each_request_is_asked_until_it_has_its_own_answer() -> None:
    with server({3: 1, 7: 4}) as (port, asked):
        answers = ask(HOST, port, requests(10), connections=4)
    assert {index: answer["y"].item() for index, answer in answers.found.items()} == {n: float(n) for n in range(10)}
    assert answers.n_refused == 5
    assert asked == {n: 1 for n in range(10)} | {3: 2, 7: 5}


def test_who_is_refused_to_the_last_and_who_fails_has_no_answer() -> None:
    with server({1: 10**6}, broken=2) as (port, asked):
        answers = ask(HOST, port, requests(4), connections=2)
    assert sorted(answers.found) == [0, 3]
    assert answers.n_refused == asked[1] == MOST_ROUNDS
    assert asked[2] == 1
