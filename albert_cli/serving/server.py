"""The socket, the server of HTTP on it, and its end."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import warnings
from typing import Any

import uvicorn

from albert_cli import console, interruption
from albert_cli.errors import Notice, ServerError
from albert_cli.serving.app import Application

# Connections that wait to be accepted.
_BACKLOG = 2048
# Seconds for the answers to what was asked before a signal to stop.
_LAST_ANSWERS = 30


def open_socket(host: str, port: int) -> socket.socket:
    """A socket bound to the address, on which nobody is heard yet; ServerError where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ServerError(f"--host {host}: no address of this machine ({getattr(error, 'strerror', error)})") from None
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ServerError(f"{host}:{port}: {error.strerror}; choose another with --port or --host") from None
    return bound


def is_private(bound: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def url_of(bound: socket.socket) -> str:
    """Where clients find it."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(application: Application, bound: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM, which is raised again when all that were accepted are answered."""
    config: dict[str, Any] = {
        "access_log": False,
        "backlog": 1,  # connections that asyncio accepts in one turn; it reports a failure so many times at once
        "lifespan": "off",
        "log_config": None,
        "log_level": "error",
        "server_header": False,
        "timeout_graceful_shutdown": _LAST_ANSWERS,
        "ws": "none",
    }
    server = _Server(uvicorn.Config(application.asgi, **config))
    # What a command says once is said to every client.
    warnings.filterwarnings("ignore", category=Notice)
    # Its defects have a traceback; what it says without one, `run` says better.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.exc_info is not None)
    logging.getLogger("asyncio").addFilter(_TooManyClients())

    def answered() -> interruption.Kept:
        given_up = f", {application.given_up:,} given up" if application.given_up else ""
        return f"{application.answered:,} requests were answered{given_up}", None

    with interruption.keeping(answered), console.aside():
        try:
            server.run(sockets=[bound])
        finally:
            application.close()


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for bound in sockets or []:
            listen(bound)  # which asyncio did with its own backlog


class _TooManyClients(logging.Filter):
    """Says in one line, once, that no further connection can be accepted; asyncio tries again every second."""

    said = False

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, OSError) and record.getMessage().startswith("socket.accept() "):
            if not self.said:
                console.fail(f"{error.strerror}: new clients wait until others leave; raise what ulimit -n says")
            self.said = True
            return False
        # A further try, after the end.
        return "._start_serving(" not in record.getMessage()


def listen(bound: socket.socket) -> None:
    """From now on connections are accepted, and wait for `run`."""
    bound.listen(_BACKLOG)
