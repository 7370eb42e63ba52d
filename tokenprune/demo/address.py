"""Where the page is served: on this machine, for this machine."""

from __future__ import annotations

import socket

from tokenprune.errors import ConfigError

HOST = "127.0.0.1"


def check_free(port: int | None) -> None:
    """ConfigError where another program listens on `port`; None: the first free one is taken."""
    if port is None:
        return
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ended a moment ago: free
        try:
            one.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"port={port} cannot be had ({error.strerror}): write another one, or leave it out "
                "for the first free one"
            ) from None
