"""The web application: answers, refusals, and whom it does not answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from served import SECONDS, ask, send, serving

from hybridnet.errors import Fault, InputError

pytest.importorskip("starlette", reason="needs the extra demo")
pytest.importorskip("uvicorn", reason="needs the extra demo")

from hybridnet.web.app import make_app

MAX_BYTES = 1000


class Answerer:
    """Answers with the size; knows no empty file, and stumbles over one content."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def __call__(self, upload: bytes) -> dict[str, Any]:
        self.seen.append(upload)
        if not upload:
            raise InputError(Fault("unreadable image", "/secret/place", "is empty (0 bytes)"))
        if upload == b"stumble":
            raise RuntimeError("a secret")
        return {"size": len(upload)}


@pytest.fixture(scope="module")
def answerer() -> Answerer:
    return Answerer()


@pytest.fixture(scope="module")
def port(answerer: Answerer) -> Iterator[int]:
    files = {"/": ("text/html", "<h1>größer</h1>"), "/page.js": ("text/javascript", "1")}
    with serving(make_app(answerer, files, hosts=["Rice.local"], max_bytes=MAX_BYTES)) as port:
        yield port


def test_files_of_the_page(port: int) -> None:
    status, response, content = ask(port, "GET", "/")
    assert (status, content.decode()) == (200, "<h1>größer</h1>")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert ask(port, "GET", "/page.js")[1].headers["content-type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("path", ["/etc/passwd", "/../../etc/passwd", "//etc/passwd", "/%2e%2e/page.py", "/page.py"])
def test_no_other_file(port: int, path: str) -> None:
    assert ask(port, "GET", path)[0] == 404


def test_only_posts_are_answered(port: int) -> None:
    assert ask(port, "GET", "/predict")[0] == 405
    assert ask(port, "POST", "/")[0] == 405


@pytest.mark.parametrize("path", ["/", "/predict", "/nowhere"])
def test_headers_are_everywhere(port: int, path: str) -> None:
    headers = ask(port, "GET", path)[1].headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


def test_a_picture_is_answered_up_to_the_limit(port: int, answerer: Answerer) -> None:
    assert send(port, b"x" * MAX_BYTES) == (200, {"size": MAX_BYTES})
    assert answerer.seen[-1] == b"x" * MAX_BYTES


@pytest.mark.parametrize("is_told", [True, False])  # its size, before it is sent
@pytest.mark.parametrize("size", [MAX_BYTES + 1, 5 * MAX_BYTES])
def test_too_large_uploads_are_not_kept(port: int, answerer: Answerer, size: int, is_told: bool) -> None:
    before = len(answerer.seen)
    upload = b"x" * size if is_told else iter([b"x" * (size // 2), b"x" * (size - size // 2)])
    assert send(port, upload) == (413, {"error": "it is larger than 0.001 MB"})
    assert len(answerer.seen) == before


def test_what_cannot_be_used_is_told_without_the_server_s_paths(port: int) -> None:
    assert send(port, b"") == (400, {"error": "it is empty (0 bytes)"})


def test_a_form_is_told_how_to_send_the_file(port: int, answerer: Answerer) -> None:
    before = len(answerer.seen)
    form = "multipart/form-data; boundary=x"
    status, answer = send(port, b"--x\r\n\r\npicture\r\n--x--\r\n", content_type=form)
    assert (status, answer["error"].partition("; ")[2]) == (415, "send the file itself: curl --data-binary @leaf.jpg")
    assert len(answerer.seen) == before
    assert send(port, b"a", content_type="application/x-www-form-urlencoded")[0] == 200, "as curl calls any data"


def test_a_failure_does_not_end_the_server(port: int, caplog: pytest.LogCaptureFixture) -> None:
    status, answer = send(port, b"stumble")
    assert status == 500
    assert "terminal" in answer["error"] and "secret" not in answer["error"]
    assert "RuntimeError: a secret" in caplog.text
    assert send(port, b"next")[0] == 200


def test_an_upload_that_is_broken_off_is_forgotten(port: int, answerer: Answerer) -> None:
    before = len(answerer.seen)
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
    assert send(port, b"next")[0] == 200
    assert answerer.seen[before:] == [b"next"]


@pytest.mark.parametrize(
    "host", ["localhost:{}", "127.0.0.1:{}", "192.168.1.20:{}", "[::1]:{}", "rice.local:{}", "RICE.local"]
)
def test_own_names(port: int, host: str) -> None:
    host = host.format(port)
    assert send(port, b"a", Host=host, Origin=f"http://{host}")[0] == 200
    assert send(port, b"a", Host=host)[0] == 200


@pytest.mark.parametrize("host", ["evil.example:{}", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1"])
def test_a_stranger_s_name_is_refused(port: int, answerer: Answerer, host: str) -> None:
    """DNS rebinding: a stranger's page whose name has become this machine's address."""
    host, before = host.format(port), len(answerer.seen)
    for method, path in (("GET", "/"), ("POST", "/predict")):
        status, response, content = ask(port, method, path, b"a", Host=host)
        assert status == 403
        assert b"other sites" in content
        assert "access-control-allow-origin" not in response.headers
    assert len(answerer.seen) == before


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://[", "http://127.0.0.1:1", "http://localhost:{}"]
)
def test_a_stranger_s_page_is_refused(port: int, answerer: Answerer, origin: str) -> None:
    before = len(answerer.seen)
    assert ask(port, "POST", "/predict", b"a", Origin=origin.format(port))[0] == 403
    assert len(answerer.seen) == before


def test_one_picture_at_a_time() -> None:
    both = threading.Barrier(2)
    alone = []

    def answer(upload: bytes) -> dict[str, Any]:
        try:
            both.wait(timeout=0.3)  # for the other one, which would come if it were let in
        except threading.BrokenBarrierError:
            both.reset()
            alone.append(upload)
        return {"upload": upload.decode()}

    with serving(make_app(answer, {}, hosts=[], max_bytes=MAX_BYTES)) as port, ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda upload: send(port, upload), [b"first", b"second"]))
    assert answers == [(200, {"upload": "first"}), (200, {"upload": "second"})]
    assert sorted(alone) == [b"first", b"second"]
