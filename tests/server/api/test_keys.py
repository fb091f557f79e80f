from __future__ import annotations

import pytest

from server.api.keys import Keys, asks_models, keys_of


@pytest.mark.parametrize(
    ("path", "asks"),
    [
        ("/v1/models", True), ("/v1/chat/completions", True), ("/v1/nothing", True), ("/v2", True), ("/v2/", True),
        ("/v2/models/m/infer", True), ("/v2/models/ready", True), ("/v2/models/ready/infer", True), ("/v2/models/m/infer/ready", True),
        ("/v2/models/m/generate_stream", True), ("/v2/repository/index", True), ("/v2/health/a/ready/b", True),
        ("/v2/health/live", False), ("/v2/health/ready", False), ("/v2/models/m/ready", False),
        ("/v2/models/m/versions/3/ready", False), ("/metrics", False), ("/admin/models", False), ("/v20", False), ("/health", False),
    ],
)  # fmt: skip
def test_what_needs_a_key(path: str, asks: bool) -> None:
    assert asks_models(path) is asks


@pytest.mark.parametrize(
    ("given", "is_right"),
    [
        (b"Bearer one-key-1", True), (b"bearer one-key-1", True), (b"Bearer two-key-2", True), (b"Bearer the-admin", True),
        (b"", False), (b"Bearer ", False), (b"Bearer one-key-", False), (b"one-key-1", False), (b"Basic one-key-1", False),
        (b"Bearer one-key-1 x", False), (b"Bearer \xff", False), (b"Bearer one-key-1,two-key-2", False),
    ],
)  # fmt: skip
def test_which_keys_are_right(given: bytes, is_right: bool) -> None:
    keys = Keys("one-key-1,two-key-2", "the-admin")
    assert keys.allow([(b"host", b"x"), (b"authorization", given)]) is is_right


def test_without_keys_nobody_is_asked_for_one() -> None:
    assert keys_of("", "the-admin-token") is None
    only = keys_of("one-key-1", None)
    assert only is not None
    assert not only.allow([(b"authorization", b"Bearer None")])
