"""Who may open the page: on this machine anyone, from elsewhere only with a password."""

import hmac
import os
import sys
from collections.abc import Callable, Mapping
from getpass import getpass
from pathlib import Path

from tokenflow.errors import ConfigError

LOCAL = ("127.0.0.1", "localhost", "::1")

VARIABLE = "TOKENFLOW_UI_PASSWORD"

MIN_CHARACTERS = 8
"""Of a password."""

Check = Callable[[str, str], bool]
"""Whether a user may enter, by name and password."""


def find_password(
    address: str, file: Path | None, environment: Mapping[str, str] | None = None, *, share: bool = False
) -> str | None:
    """The password of a page: from a file, the environment or, where others can open the page, a prompt.

    Args:
        address: that the page is served at.
        file: its first line is the password; None if there is none.
        environment: by default the process's own.
        share: whether there is a share link.

    Raises:
        ConfigError: the page needs a password and there is none, or it is too short.
    """
    environment = os.environ if environment is None else environment
    password = _read(file) if file else environment.get(VARIABLE)
    if password is None and (share or address not in LOCAL):
        if not sys.stdin.isatty():
            place = "with a share link" if share else f"at {address}"
            raise ConfigError(
                f"a page {place} can be opened from other machines and needs a password; set {VARIABLE}, or name "
                "a file that holds one with --password-file"
            )
        password = getpass("password of the page: ")
    if password is not None and len(password) < MIN_CHARACTERS:
        raise ConfigError(f"expected a password of {MIN_CHARACTERS} characters or more, got {len(password)}")
    return password


def check_against(password: str) -> Check:
    """Lets in whoever gives the password, under any name."""

    def check(name: str, given: str) -> bool:
        return hmac.compare_digest(given.encode(), password.encode())

    return check


def _read(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the password in {file} ({error}); check the path") from error
    return lines[0] if lines else ""
