"""The port for metrics: its own threads answer, without any event loop."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry, Counter

from server.telemetry.scrape import ScrapeServer


@pytest.fixture
def scrape() -> Iterator[ScrapeServer]:
    registry = CollectorRegistry()
    Counter("seen", "For the test", registry=registry).inc(7)
    running = ScrapeServer("127.0.0.1", 0, registry)
    yield running
    running.close()


def get(port: int, path: str) -> tuple[int, str, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    found = response.status, response.getheader("content-type", ""), response.read()
    connection.close()
    return found


def test_metrics_and_nothing_else(scrape: ScrapeServer) -> None:
    status, kind, body = get(scrape.port, "/metrics?name[]=x")
    assert (status, kind.split(";")[0], b"seen_total 7.0" in body) == (200, "text/plain", True)
    status, kind, body = get(scrape.port, "/")
    assert (status, kind, b'"error"' in body) == (404, "application/json", True)


def test_a_client_that_says_nothing_keeps_nobody_waiting(scrape: ScrapeServer) -> None:
    with socket.create_connection(("127.0.0.1", scrape.port)):
        assert get(scrape.port, "/metrics")[0] == 200


def test_a_taken_port_is_an_error_and_a_closed_one_is_free(scrape: ScrapeServer) -> None:
    with pytest.raises(OSError, match="in use"):
        ScrapeServer("127.0.0.1", scrape.port, CollectorRegistry())
    first = ScrapeServer("127.0.0.1", 0, CollectorRegistry())
    first.close()
    ScrapeServer("127.0.0.1", first.port, CollectorRegistry()).close()
