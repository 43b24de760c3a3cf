"""A PostgreSQL of the tests' own: Debian's, in a temporary folder, reached by a socket in it, run by no root."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

WHY_NOT = "needs PostgreSQL (apt-get install postgresql)"
USER = "postgres"


def programs() -> Path | None:
    """The folder of the newest PostgreSQL that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def cluster() -> Iterator[str]:
    """A running cluster: its folder, which is that of its socket, too."""
    binaries = programs()
    if binaries is None:
        raise RuntimeError(WHY_NOT)
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # not pytest's, whose paths are too long for sockets
    data = folder / "data"
    if os.geteuid() == 0:
        shutil.chown(folder, USER, USER)
    try:
        _run([str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", USER, "-N", "--no-instructions"])
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=200"
        log = str(folder / "log")
        _run([str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", log, "-o", options, "start"])
        try:
            yield str(folder)
        finally:
            _run([str(binaries / "pg_ctl"), "-D", str(data), "-w", "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: Sequence[str]) -> None:
    """Run a program, which refuses to be run by root, as another user."""
    user = USER if os.geteuid() == 0 else None
    done = subprocess.run(command, user=user, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}")
