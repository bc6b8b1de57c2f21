"""The web application: one page, and one address that takes a picture. It reads and serves no other file."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hybridnet.errors import InputError

log = logging.getLogger(__name__)

UPLOAD_SECONDS = 120.0
FORM = "it came inside a form; send the file itself: curl --data-binary @leaf.jpg"
DRAINED = 8  # times the limit is read of what is too large: only then does a browser see the answer

# The page needs nothing but this server; its script and style are files, so no other text can act as one.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def make_app(
    answer: Callable[[bytes], dict[str, Any]],
    files: Mapping[str, tuple[str, str]],
    *,
    hosts: Collection[str],
    max_bytes: int,
) -> Starlette:
    """`POST /predict` takes the bytes of a picture and gives JSON: an answer, or `error` with the reason.

    Args:
        answer: to the bytes of a picture, in plain types; raises InputError for what is none. It is called in a
            thread, one picture at a time.
        files: media type and text of each path of the page.
        hosts: names, besides IP addresses and localhost, by which a browser may call this server.
        max_bytes: of an upload.
    """
    one_at_a_time = asyncio.Lock()

    async def predict(request: Request) -> Response:
        try:
            upload = await asyncio.wait_for(_body(request, max_bytes), UPLOAD_SECONDS)
        except ClientDisconnect:
            return Response(status_code=400)
        except asyncio.TimeoutError:  # the builtin one from Python 3.11 on
            return _refused(408, "it did not arrive in time")
        if upload is None:
            return _refused(413, f"it is larger than {max_bytes / 1e6:g} MB")
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            return _refused(415, FORM)
        async with one_at_a_time:
            try:
                return JSONResponse(await run_in_threadpool(answer, upload))
            except InputError as error:
                cause = error.faults[0].cause
                return _refused(400, f"it {cause}" if cause.startswith(("is ", "has ")) else cause)
            except Exception:
                log.exception("a picture could not be answered")
                return _refused(500, "something went wrong here; the server's terminal shows what")

    routes = [Route("/predict", predict, methods=["POST"])]
    routes += [Route(path, _constant(text, media_type)) for path, (media_type, text) in files.items()]
    return Starlette(routes=routes, middleware=[Middleware(Guard, hosts=hosts)])


def _constant(text: str, media_type: str) -> Callable[[Request], Response]:
    def respond(request: Request) -> Response:
        return Response(text, media_type=media_type)

    return respond


async def _body(request: Request, max_bytes: int) -> bytes | None:
    """The upload; None if it is larger than that, of which no more is kept."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= max_bytes:
            chunks.append(chunk)
        elif size > DRAINED * max_bytes:
            return None
        else:
            chunks.clear()
    return b"".join(chunks) if size <= max_bytes else None


def _refused(status: int, cause: str) -> Response:
    return JSONResponse({"error": cause}, status_code=status)


class Guard:
    """Middleware that answers only this server's page, under a name of this server, and adds `HEADERS`.

    A stranger's page in the same browser can send requests to a local server; and, once the stranger's name server
    says that its name is 127.0.0.1 (DNS rebinding), read the answers. The first has another Origin, the second a Host
    that is a name of the stranger's.

    Args:
        app: what is guarded.
        hosts: names that are allowed besides IP addresses and localhost.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app = app
        self.hosts = {"localhost", *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        is_own = self._is_name(host) and (origin is None or origin.partition("://")[2] == host)
        app = self.app if is_own else PlainTextResponse("this server does not answer other sites\n", status_code=403)
        await app(scope, receive, send_with_headers)

    def _is_name(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.hosts or _is_ip(name)


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
