"""What an ASGI application is given and gives, and the reply to a call that failed: one frame for all raw applications, each with the
form of error of its own interface."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from server.api.disconnects import Receive
from server.api.errors_http import INTERNAL, Reply
from server.api.infer_head import Scope
from server.errors import Cancelled, FerryError

log = logging.getLogger(__name__)

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def answer_failed(error: Exception, form: Callable[[FerryError], Reply], scope: Scope, send: Send) -> None:
    """Send the whole reply to a call that ended with this error before anything of a reply was sent; none if the client is gone. An error
    that is none of ferry's is a bug: the log has it, the client does not."""
    if isinstance(error, Cancelled):
        return
    if not isinstance(error, FerryError):
        log.error("%s failed: a bug in ferry", scope["path"], exc_info=error)
        error = FerryError(INTERNAL)
    status, headers, body = form(error)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
