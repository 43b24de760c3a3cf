"""Keeps a child process running: starts it again when it ends, later each time, and ends it with the server."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

PAUSES = (0.0, 1.0, 5.0, 15.0, 60.0)
"""Seconds before a child that has ended is started again; the last one from then on."""

HEALTHY = 60.0
"""Seconds after which a child counts as one that works."""

PATIENCE = 20.0
"""Seconds that a child gets to end by itself."""

log = logging.getLogger(__name__)


def end_with_parent() -> None:
    """In a child: end this process, as SIGTERM does, once the server has ended, however it did."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):  # past Python's buffer, which a thread may not hold when Python ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the server decides
    threading.Thread(target=wait, daemon=True).start()


class Supervisor:
    """Runs a module of this package as a child process.

    Args:
        module: its name.
        options: the line that it reads from standard input, which stays open for as long as the server lives.
    """

    def __init__(self, module: str, options: bytes) -> None:
        self._module, self._options = module, options
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name=module, daemon=True)

    def start(self) -> None:
        """Start the child, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End the child, and wait for it."""
        self._stopped.set()
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        failures = 0
        while not self._stopped.wait(PAUSES[min(failures, len(PAUSES) - 1)]):
            begin = time.monotonic()
            self._process = subprocess.Popen([sys.executable, "-m", self._module], stdin=subprocess.PIPE)
            if self._stopped.is_set():
                self._process.terminate()
            with suppress(OSError):  # it has ended already
                if self._process.stdin is not None:
                    self._process.stdin.write(self._options)
                    self._process.stdin.flush()
            status = self._process.wait()
            failures = 1 if time.monotonic() - begin > HEALTHY else failures + 1
            if not self._stopped.is_set():
                log.error("%s ended with status %s and is started again", self._module, status)
