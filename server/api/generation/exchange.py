"""One HTTP exchange that generates: the answers of a call that runs, as one reply or as a stream of events."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from server.api.asgi import Send
from server.api.disconnects import Receive, listen
from server.api.errors_http import INTERNAL
from server.api.generation.forms import Form
from server.api.generation.running import Running
from server.errors import Cancelled, FerryError

log = logging.getLogger(__name__)

JSON_HEADERS = [(b"content-type", b"application/json")]
STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"),
]  # fmt: skip
"""The last one tells a proxy not to wait for more."""

AT_ONCE = 512
"""Tokens with log probabilities that are written on the event loop: 2 to 12 ms. A reply with more of them is, in a thread of its own."""


async def exchange(running: Running, form: Form, streams: bool, receive: Receive, send: Send) -> None:
    """Until the last answer is written or the client has gone, which stops them all at once.

    Raises a FerryError as long as nothing has been sent, so that it can become the reply; later it ends the stream.
    """
    listening = asyncio.ensure_future(listen(receive, running.abandon))
    try:
        if streams:
            await running.begun()
            await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
            await _write_events(running, form, send)
        else:
            await running.finished()
            body = await _whole(running, form)
            headers = [*JSON_HEADERS, (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
    finally:
        listening.cancel()
        running.stop()


async def _whole(running: Running, form: Form) -> bytes:
    news = [answer.take() for answer in running.answers]
    n_judged = sum([len(one.tokens) + len(answer.scores) for one, answer in zip(news, running.answers, strict=True)])
    write = partial(form.whole, news, running.usage)
    return write() if n_judged <= AT_ONCE else await asyncio.to_thread(write)


async def _write_events(running: Running, form: Form, send: Send) -> None:
    try:
        await _write_news(running, form, send)
        tail = form.last(running.usage)
    except Cancelled:
        return  # nobody is left to read an end
    except FerryError as error:
        tail = form.failed(error)
    except Exception:  # a client always gets an end, and one bug must not end the connection of the others
        log.exception("a stream failed: a bug in ferry")
        tail = form.failed(FerryError(INTERNAL))
    await send({"type": "http.response.body", "body": tail})


async def _write_news(running: Running, form: Form, send: Send) -> None:
    """Whatever has gathered while the client was read goes out in one piece."""
    data, growing = form.first(), dict(enumerate(running.answers))
    while True:
        for index, answer in list(growing.items()):
            news = answer.take()
            data += form.event(index, news)
            if news.finish:
                del growing[index]
        if data:
            await send({"type": "http.response.body", "body": data, "more_body": True})
        if not growing:
            return
        data = b""
        await running.more()
