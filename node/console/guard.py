"""What a request must show before the console acts on it, and what every answer of it says.

A page elsewhere can make a browser send us a form, with the cookie if it is on this machine as
well. So a form counts only if the browser says that it comes from our own page, and if it has the
token that only our pages show.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallystick.node.api.problems import Refused

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With no-referrer, browsers would hide the origin of our own forms from us as well.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_FOREIGN = "this form was not sent from a page of this console"


class Hardened:
    """An application whose every answer has the headers above, where it has not set its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, guarded)


def check_origin(request: Request, *, also: Sequence[str] = ()) -> None:
    """Refuse a form that does not come from our own pages (or from an origin of `also`)."""
    headers: Headers = request.headers
    origin = headers.get("origin", "")
    if origin in also:
        return
    host = headers.get("host", "")
    # The door has checked that the host is us; a proxy in front of it may speak TLS.
    own = origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
    if not own or headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Refused(403, _FOREIGN, "Open the console anew and send it from there")
