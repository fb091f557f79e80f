"""Who counts as one client: by key, by address, by network; the same number in every process, and on HTTP as on gRPC."""

from __future__ import annotations

import subprocess
import sys

import pytest

from server.api.clients import FROM_FRONT_END, Clients

CLIENTS = Clients("X-Api-Key")


def test_the_same_key_is_the_same_client_on_http_and_grpc() -> None:
    number = CLIENTS.by_headers([(b"host", b"h"), (b"x-api-key", b"secret")])
    assert number == CLIENTS.by_metadata([("user-agent", "g"), ("x-api-key", "secret")], "ipv4:1.2.3.4:5")
    assert number != CLIENTS.by_headers([(b"x-api-key", b"Secret")])
    assert 0 < number < 2**64


def test_a_number_does_not_depend_on_the_process() -> None:
    code = "from server.api.clients import Clients; print(Clients('k').by_headers([(b'k', b'secret')]))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert int(printed) == Clients("k").by_headers([(b"k", b"secret")])


@pytest.mark.parametrize("headers", [[], [(b"authorization", b"secret")], [(b"x-api-key", b"")]])
def test_without_a_key_the_address_counts(headers: list[tuple[bytes, bytes]]) -> None:
    assert CLIENTS.by_headers(headers) == 0
    assert CLIENTS.known(0, ("1.2.3.4", 5)) == CLIENTS.known(0, ("1.2.3.4", 6))
    assert CLIENTS.known(0, ("1.2.3.4", 5)) != CLIENTS.known(0, ("1.2.3.5", 5))
    assert CLIENTS.known(7, ("1.2.3.4", 5)) == 7
    assert CLIENTS.known(0, None) > 0


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True), ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:1.2.3.4", "1.2.3.4", True), ("::ffff:1.2.3.4", "::ffff:1.2.3.5", False), ("fe80::1%eth0", "fe80::2%eth1", True),
        ("not an address", "not an address", True),
    ],
)  # fmt: skip
def test_a_network_of_ipv6_is_one_client(one: str, other: str, are_one: bool) -> None:
    assert (CLIENTS.by_address(one) == CLIENTS.by_address(other)) is are_one


@pytest.mark.parametrize(
    ("peer", "host"),
    [("ipv4:1.2.3.4:50", "1.2.3.4"), ("ipv6:%5B2001:db8::1%5D:50", "2001:db8::1"), ("ipv6:[2001:db8::1]:50", "2001:db8::1")],
)
def test_an_address_is_the_same_over_grpc(peer: str, host: str) -> None:
    assert CLIENTS.by_metadata([], peer) == CLIENTS.by_address(host)


def test_only_an_engine_behind_front_ends_believes_their_word() -> None:
    headers = [(FROM_FRONT_END, b"%x" % 12345), (b"x-api-key", b"secret")]
    assert Clients("x-api-key", behind_front_ends=True).by_headers(headers) == 12345
    assert CLIENTS.by_headers(headers) == CLIENTS.by_headers(headers[1:])
    assert CLIENTS.by_headers(headers[:1]) == 0


def test_keys_are_not_kept() -> None:
    assert "secret" not in repr(CLIENTS.by_headers([(b"x-api-key", b"secret")]))
