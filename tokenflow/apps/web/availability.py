"""Whether the page can be served here, checked before anything is loaded."""

import os
import socket
from importlib.util import find_spec

from tokenflow.errors import EngineError


def check_installed() -> None:
    """Check that Gradio is there.

    Raises:
        EngineError: it is not.
    """
    if find_spec("gradio") is None:
        raise EngineError('the web page needs Gradio; install it with: pip install "tokenflow[ui]"')


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
