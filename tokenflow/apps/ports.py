"""Ports that this machine listens at."""

import os
import socket

from tokenflow.errors import EngineError


def free_port() -> int:
    """A port of this machine alone (127.0.0.1) that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_port(address: str, port: int) -> None:
    """Check that a port is free.

    Raises:
        EngineError: it is taken, or the address is not one of this machine.
    """
    try:
        family, kind, *_, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            if os.name == "posix":  # on Windows it would take a port that is in use
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise EngineError(
            f"cannot listen at {address}, port {port} ({error.strerror or error}); choose another --port or --address"
        ) from error
