"""Errors in OpenAI's form: status, type, and the headers that say whether and when to try again."""

from __future__ import annotations

import json

import pytest

from server.api.openai_errors import BadParameter, UnknownModel, no_route, openai_error, wrong_method
from server.errors import BadText, FerryError, InstanceLost, ModelFailed, NotReady, Refused, TooLarge, TooLong


@pytest.mark.parametrize(
    ("error", "status", "kind", "param", "code", "retry"),
    [
        (Refused("late", "deadline", 0.0123), 429, "rate_limit_error", None, "deadline", "true"),
        (Refused("too slow for ever", "deadline", None), 429, "rate_limit_error", None, "deadline", "false"),
        (NotReady("loading"), 503, "server_error", None, "not_ready", "true"),
        (InstanceLost("died"), 503, "server_error", None, "instance_lost", "true"),
        (ModelFailed("raised"), 500, "server_error", None, "model_error", "false"),
        (FerryError("bug"), 500, "server_error", None, "internal", "false"),
        (BadParameter("input", "wrong", "odd"), 400, "invalid_request_error", "input", "odd", None),
        (BadText("too long"), 400, "invalid_request_error", "input", "bad_text", None),
        (UnknownModel("who?"), 404, "invalid_request_error", "model", "model_not_found", None),
        (TooLong("no room", "too_long", None), 400, "invalid_request_error", None, "context_length_exceeded", None),
        (TooLarge("big"), 413, "invalid_request_error", None, "too_large", None),
        (no_route("/v1/x"), 404, "invalid_request_error", None, "not_found", None),
        (wrong_method("/v1/models", "PUT"), 405, "invalid_request_error", None, "method", None),
    ],
)
def test_each_error_has_its_form(
    error: FerryError, status: int, kind: str, param: str | None, code: str, retry: str | None
) -> None:
    found_status, headers, body = openai_error(error)
    told = {name.decode(): value.decode() for name, value in headers}
    assert found_status == status
    assert json.loads(body) == {"error": {"message": str(error), "type": kind, "param": param, "code": code}}
    assert told["content-length"] == str(len(body))
    assert told.get("x-should-retry") == retry


def test_a_refusal_says_when_to_come_back() -> None:
    _, headers, _ = openai_error(Refused("late", "deadline", 0.0123))
    assert (b"retry-after", b"1") in headers
    assert (b"retry-after-ms", b"13") in headers
