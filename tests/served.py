"""A server of the web page in a thread of the test, and a browser's requests to it."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any

SECONDS = 60.0  # until a test gives up


@contextmanager
def serving(app: Any) -> Iterator[int]:
    """Serves an application on a free port, which it gives."""
    from hybridnet.web.server import Server, listen

    with listen("127.0.0.1", 0) as listener:
        ready: queue.Queue[None] = queue.Queue()
        server = Server(app, listener, when_ready=lambda: ready.put(None))
        with in_thread(server.run):
            ready.get(timeout=SECONDS)
            try:
                yield listener.getsockname()[1]
            finally:
                server.stop()


@contextmanager
def in_thread(function: Callable[[], None]) -> Iterator[None]:
    """Runs a function beside the block, and waits for its end."""
    thread = threading.Thread(target=function)
    thread.start()
    try:
        yield
    finally:
        thread.join(SECONDS)
        assert not thread.is_alive()


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, HTTPResponse, bytes]:
    """Status, response and content."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response, response.read()
    finally:
        connection.close()


def send(port: int, upload: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and answer to a picture."""
    status, _, content = ask(port, "POST", "/predict", upload, **headers)
    return status, json.loads(content)
