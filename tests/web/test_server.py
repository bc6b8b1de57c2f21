"""Where the server listens, what it is called, and what it says about places that it cannot have."""

from __future__ import annotations

import socket

import pytest
from served import ask, serving

from hybridnet.errors import InputError

pytest.importorskip("starlette", reason="needs the extra demo")
pytest.importorskip("uvicorn", reason="needs the extra demo")

from hybridnet.web import server


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("203.0.113.1", "unusable host in host=203.0.113.1: this machine has no such address\nhint: host=127.0.0.1 is"),
        ("two..dots", r"unusable host in host=two\.\.dots: "),
    ],
)
def test_hosts_that_are_not_there(host: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        server.listen(host, 0)


def test_a_name_that_cannot_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(InputError, match=r"unusable host in host=nowhere: Name or service not known\nhint: "):
        server.listen("nowhere", 0)


def test_a_port_in_use() -> None:
    with server.listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(InputError, match=f"unusable port in port={port}: another program uses it\nhint: port=0"):
            server.listen("127.0.0.1", port)
    server.listen("127.0.0.1", port).close()


def test_the_address_of_this_machine_alone() -> None:
    with server.listen("localhost", 0) as listener:
        address = server.Address(listener, "localhost")
        assert address.is_local and address.elsewhere is None
        assert address.here == f"http://localhost:{listener.getsockname()[1]}/"
        assert address.names == ["localhost"]


def test_the_address_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Lab")
    monkeypatch.setattr(server, "_address_in_network", lambda: "192.168.1.20")
    with server.listen("0.0.0.0", 0) as listener:
        address, port = server.Address(listener, "0.0.0.0"), listener.getsockname()[1]
        assert not address.is_local
        assert address.here == f"http://127.0.0.1:{port}/"
        assert address.elsewhere == f"http://192.168.1.20:{port}/"
        assert address.names == ["0.0.0.0", "Lab", "Lab.local"]


def test_an_ipv6_address_has_brackets() -> None:
    try:
        listener = server.listen("::1", 0)
    except InputError:
        pytest.skip("no IPv6 here")
    with listener:
        assert server.Address(listener, "::1").here == f"http://[::1]:{listener.getsockname()[1]}/"


def test_it_serves_until_it_is_stopped() -> None:
    async def app(scope: dict, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with serving(app) as port:
        assert ask(port, "GET", "/")[0] == 204
    with pytest.raises(ConnectionRefusedError):
        ask(port, "GET", "/")
