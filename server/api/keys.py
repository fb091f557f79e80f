"""Who may ask models, where the server was given keys: looked at before anything else of a request, over HTTP and gRPC alike."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable

from server.api.asgi import App, Send, answer_failed
from server.api.disconnects import Receive
from server.api.errors_http import error_reply
from server.api.infer_head import Scope
from server.api.openai_errors import openai_error
from server.errors import Unauthorized

_IS_UP = re.compile(r"/v2/health/[^/]+|/v2/models/[^/]+(/versions/[^/]+)?/ready")


class Keys:
    """Those of one server. Its admin token is one more: who may change models may ask them."""

    def __init__(self, keys: str, admin_token: str | None) -> None:
        """`keys`: by commas, at least one."""
        known = [*keys.split(","), *([admin_token] if admin_token else [])]
        self._known = [key.encode() for key in known]

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """`headers`: of HTTP, or a call's metadata, with names in lower case. Raises Unauthorized."""
        given = next((value for name, value in headers if name == b"authorization"), b"")
        if not self._knows(given):
            raise Unauthorized(
                f"the API key is {'wrong' if given else 'missing'}; send the header Authorization: Bearer KEY with one of this server's keys"
            )

    def allow(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Likewise, as an answer."""
        try:
            self.check(headers)
        except Unauthorized:
            return False
        return True

    def _knows(self, given: bytes) -> bool:
        """Takes as long for a key that is nearly right as for any other."""
        scheme, _, key = given.partition(b" ")
        same = [hmac.compare_digest(key.strip(), one) for one in self._known]
        return scheme.lower() == b"bearer" and any(same)


def keys_of(keys: str, admin_token: str | None) -> Keys | None:
    """None where there are none: then everybody may ask."""
    return Keys(keys, admin_token) if keys else None


def with_keys(app: App, keys: Keys | None) -> App:
    """`app`, where who asks models needs one of `keys`; None leaves it as it is. Open to all stay health, readiness and metrics, which
    machines ask for, and what the admin token protects by itself."""
    if keys is None:
        return app

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and asks_models(scope["path"]):
            try:
                keys.check(scope["headers"])
            except Unauthorized as error:
                form = openai_error if scope["path"].startswith("/v1/") else error_reply
                await answer_failed(error, form, scope, send)
                return
        await app(scope, receive, send)

    return checked


def asks_models(path: str) -> bool:
    """Whether a path is of the routes that need a key: all of V2 and OpenAI's, less those that tell whether something is up."""
    return path == "/v2" or (path.startswith(("/v1/", "/v2/")) and _IS_UP.fullmatch(path) is None)
