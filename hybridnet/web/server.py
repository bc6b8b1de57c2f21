"""The server: where it listens, what it is called, and how it ends."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from hybridnet.errors import Fault, InputError

SECONDS_TO_END = 5  # for what is being computed when the server is stopped
MOST_CONNECTIONS = 64
ELSEWHERE = ("192.0.2.1", 9)  # of RFC 5737, for documentation: nothing is sent there


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address.

    Args:
        host: a name or an IP address of this machine; `0.0.0.0` and `::` are all its networks.
        port: 0 for any that is free.

    Raises:
        InputError: if there is no such address, or the port cannot be had.
    """
    local = "host=127.0.0.1 is this machine alone, host=0.0.0.0 all its networks"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise InputError(Fault("unusable host", f"host={host}", cause, local)) from error
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            cause = "this machine has no such address"
            raise InputError(Fault("unusable host", f"host={host}", cause, local)) from error
        is_used = error.errno == errno.EADDRINUSE
        cause = "another program uses it" if is_used else (error.strerror or str(error))
        hint = "port=0 takes any that is free"
        raise InputError(Fault("unusable port", f"port={port}", cause, hint)) from error


class Address:
    """How a browser calls what listens on a socket.

    Args:
        listener: the socket.
        host: as the user has named it.
    """

    def __init__(self, listener: socket.socket, host: str) -> None:
        ip, self.port = listener.getsockname()[:2]
        self.ip = ipaddress.ip_address(ip.partition("%")[0])
        self.is_local = self.ip.is_loopback
        self._host = host

    @property
    def here(self) -> str:
        """The address for a browser on this machine."""
        if self.ip.is_unspecified:
            return self._url("127.0.0.1" if self.ip.version == 4 else "::1")
        return self._url(self._host)

    @property
    def elsewhere(self) -> str | None:
        """The address for another machine in the network; None if there is none, or it is not known."""
        if self.is_local:
            return None
        if not self.ip.is_unspecified:
            return self._url(str(self.ip))
        own = _address_in_network() if self.ip.version == 4 else None
        return self._url(own) if own else None

    @property
    def names(self) -> list[str]:
        """By which browsers may call it, besides IP addresses and localhost."""
        machine = socket.gethostname()
        return [self._host] if self.is_local else [self._host, machine, f"{machine}.local"]

    def _url(self, host: str) -> str:
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"


def _address_in_network() -> str | None:
    """This machine's address in the network that it would reach others by."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)  # of a datagram socket: only looks up the route
            return probe.getsockname()[0]
        except OSError:
            return None


class Server(uvicorn.Server):
    """Serves an application until it is stopped; `run` blocks.

    In the main thread SIGINT and SIGTERM end it, and are then raised again, for the handlers that were there before.

    Args:
        app: the application.
        listener: from `listen`; `run` closes it.
        when_ready: called once requests are answered.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, *, when_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",  # these three: the same code whatever else is installed
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_graceful_shutdown=SECONDS_TO_END,
            )
        )
        self._listener = listener
        self._when_ready = when_ready

    def run(self) -> None:
        super().run(sockets=[self._listener])

    def stop(self) -> None:
        """End `run`, from any thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._when_ready()
