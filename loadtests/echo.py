"""The bare baseline: a raw ASGI callable on uvicorn that reads a body and answers a small constant JSON.

What a server in this language costs before it does anything; `python -m loadtests.echo PORT` runs it.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from loadtests.child import HOST, Child, free_port, running

_BODY = b'{"model_name":"echo","outputs":[]}'
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())],
}
_END = {"type": "http.response.body", "body": _BODY}


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Read the whole body of an HTTP request, whatever its path, and answer 200 with a constant."""
    assert scope["type"] == "http"
    while (await receive()).get("more_body", False):
        pass
    await send(_START)
    await send(_END)


def serve(port: int) -> None:
    """Serve `app` on a loopback port with uvloop and httptools until SIGTERM."""
    import uvicorn

    uvicorn.run(
        app,
        host=HOST,
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )


@contextmanager
def echo_server() -> Iterator[Child]:
    """The baseline in a child process on a free port, ready to answer. Raises ChildFailed."""
    port = free_port()
    with running([sys.executable, "-m", "loadtests.echo", str(port)], port, ready_path="/") as child:
        yield child


if __name__ == "__main__":
    serve(int(sys.argv[1]))
