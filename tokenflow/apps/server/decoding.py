"""Looking at uploads in processes of their own, one each, with limits: whatever a file does, the server goes on."""

import multiprocessing
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from tokenflow.apps.server.findings import Inspected, Refused
from tokenflow.apps.server.folders import Folders
from tokenflow.apps.server.problems import Problem
from tokenflow.apps.server.settings import Limits
from tokenflow.config import Config

INSPECTION = "tokenflow.apps.server.inspection"
"""What the processes do, which takes seconds to import: the server itself never does."""

START = "spawn" if sys.platform == "win32" else "forkserver"


class Inspector:
    """Looks at uploads.

    Args:
        seconds: after which it gives up on one.
        folders: of the service, whose paths are left out of messages.
    """

    def __init__(self, seconds: float, folders: Folders) -> None:
        self._seconds = seconds
        self._folders = folders
        self._context: Any = multiprocessing.get_context(START)
        if START == "forkserver":
            self._context.set_forkserver_preload([INSPECTION])

    def warm_up(self) -> None:
        """Start the process that the others are forked from, and let it import what they need."""
        threading.Thread(target=lambda: self._start(None).join(), daemon=True).start()

    def inspect(self, config: Config, limits: Limits, seconds: float | None = None) -> Inspected:
        """What the clip of a configuration is; all that it names is decoded and checked.

        Args:
            config: whose files are those that the check is to read.
            limits: of the variant.
            seconds: of the clip that are to be edited; None for all.

        Raises:
            Problem: something cannot be read, is more than the limits allow, or does not fit.
        """
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._start(theirs, config, limits, seconds)
        theirs.close()
        try:
            answer = ours.recv() if ours.poll(self._seconds) else None
        except EOFError:
            answer = Refused(422, "the upload cannot be decoded: a decoder crashed, or used too much memory")
        finally:
            with suppress(OSError):
                process.kill()
            process.join()
            ours.close()
        match answer:
            case Inspected():
                return answer
            case Refused():
                raise Problem(answer.status, self._folders.hide(answer.message, config))
        raise Problem(413, f"the upload took more than {self._seconds:g} s to decode; send a shorter or smaller clip")

    def _start(self, connection: Connection | None, *arguments: Any) -> Any:
        process = self._context.Process(target=_look, args=(connection, *arguments), daemon=True)
        process.start()
        return process


def _look(connection: Connection | None, *arguments: Any) -> None:
    """In the process: send what the clip is, or why it is refused. Without a connection, import only."""
    from tokenflow.apps.server.inspection import inspect

    if connection is not None:
        connection.send(inspect(*arguments))
