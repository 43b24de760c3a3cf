"""`tokenflow keys`: what the commands do."""

from pathlib import Path

from tokenflow.apps.server.database import Database
from tokenflow.apps.server.folders import Folders
from tokenflow.apps.server.keys import create_key, list_keys, revoke_key
from tokenflow.apps.server.webhooks import secret_of


def open_state(data: Path, url: str | None) -> tuple[Database, Folders]:
    """The database and the folder of a service, made if they are missing."""
    folders = Folders(data)
    return Database(url or folders.database), folders


def create_lines(data: Path, url: str | None, name: str, credits: int, rate: str | None) -> list[str]:
    """Make a key: the secret that its webhooks are signed with, and on the last line the key alone."""
    database, folders = open_state(data, url)
    key = create_key(database, name, credits, rate)
    secret = secret_of(folders.secret(), key.split("_")[1])
    return [f"webhooks are signed with  {secret}", "the key, which is not shown again:", key]


def list_lines(data: Path, url: str | None) -> list[str]:
    """All keys with their credits."""
    database, _ = open_state(data, url)
    keys = list_keys(database)
    width = max([4, *(len(key.name) for key in keys)])
    lines = [f"{'name':<{width}}  {'credits':>11}  {'of':>11}  rate"]
    for key in keys:
        state = "revoked" if key.revoked_at else key.rate or "-"
        lines.append(f"{key.name:<{width}}  {key.credits:>11}  {key.granted:>11}  {state}")
    return lines


def revoke(data: Path, url: str | None, name: str) -> None:
    """Revoke a key."""
    database, _ = open_state(data, url)
    revoke_key(database, name)
