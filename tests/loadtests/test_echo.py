from __future__ import annotations

import orjson

from loadtests.call import call
from loadtests.child import HOST
from loadtests.closed_loop import drive
from loadtests.echo import echo_server


def test_the_baseline_reads_any_body_and_answers_a_constant() -> None:
    body = b"x" * 300_000
    request = b"POST /any HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with echo_server() as server:
        response = call(HOST, server.port, request)
        result = drive(HOST, server.port, [request], connections=2, n_requests=6)
    assert response.status == 200
    assert orjson.loads(response.body) == {"model_name": "echo", "outputs": []}
    assert result.answered == 6
