"""Web pages of other origins that may call the routes under /v1: chat pages ask from the browser itself. Only those routes, so that no page
ever reaches the admin API of a server on its visitor's machine."""

from __future__ import annotations

from server.api.asgi import App, Send
from server.api.disconnects import Receive
from server.api.infer_head import Scope
from server.api.openai_routes import PREFIX

_EXPOSED = ("retry-after", "retry-after-ms", "x-should-retry")
"""What scripts may read of an answer besides its content."""


def with_cors(app: App, origins: str) -> App:
    """`app`, where `origins`, by commas, may call /v1; "*" is any of them, and "" leaves `app` as it is."""
    if not origins.strip():
        return app
    from starlette.middleware.cors import CORSMiddleware  # where nobody asks for it, a front end does without this import

    allowed = [one.strip() for one in origins.split(",") if one.strip()]
    opened: App = CORSMiddleware(
        app,
        allow_origins=allowed,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=_EXPOSED,
    )

    async def chosen(scope: Scope, receive: Receive, send: Send) -> None:
        under_v1 = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        await (opened if under_v1 else app)(scope, receive, send)

    return chosen
