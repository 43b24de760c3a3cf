"""Keys of clients: made, listed, revoked and recognised. Only their digests are stored."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tokenflow.apps.server.credits import grant
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.rates import parse_rate
from tokenflow.apps.server.tables import Key
from tokenflow.errors import ConfigError

PREFIX = "tf"

MAX_CREDITS = 2**31 - 1
"""What the database can hold."""


def create_key(database: Database, name: str, credits: int, rate: str | None) -> str:
    """A new key, which is nowhere to be read again.

    Raises:
        ConfigError: the name is taken or empty, or the rate is none.
    """
    if not 0 < len(name.strip()) <= 100:
        raise ConfigError(f"expected a name of 1 to 100 characters, got {name!r}")
    if not 0 <= credits <= MAX_CREDITS:
        raise ConfigError(f"expected 0 to {MAX_CREDITS} credits, got {credits}")
    if rate is not None:
        try:
            parse_rate(rate)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    key_id = secrets.token_hex(6)
    key = f"{PREFIX}_{key_id}_{secrets.token_hex(24)}"
    row = Key(id=key_id, name=name, digest=_digest(key), credits=0, granted=0, rate=rate, created_at=time.time())
    try:
        with database.write() as session:
            session.add(row)
            session.flush()
            grant(session, key_id, credits)
    except IntegrityError:
        raise ConfigError(f"there is a key named {name!r} already; choose another name") from None
    return key


def list_keys(database: Database) -> Sequence[Key]:
    """All keys, oldest first."""
    with database.read() as session:
        return session.scalars(select(Key).order_by(Key.created_at)).all()


def revoke_key(database: Database, name: str) -> None:
    """Revoke a key; its videos go on.

    Raises:
        ConfigError: there is none of that name.
    """
    with database.write() as session:
        key = session.scalar(select(Key).where(Key.name == name))
        if key is None:
            raise ConfigError(f"there is no key named {name!r}; `tokenflow keys list` shows all")
        key.revoked_at = key.revoked_at or time.time()


def recognise(session: Session, text: str) -> Key | None:
    """The key of a text; None if it is unknown or revoked. How long it takes tells nothing about the secret part."""
    if not text.isascii():
        return None
    prefix, _, rest = text.partition("_")
    key_id, _, _ = rest.partition("_")
    key = session.get(Key, key_id) if prefix == PREFIX and "\0" not in key_id else None
    expected = _digest("") if key is None else key.digest
    is_right = hmac.compare_digest(expected, _digest(text))
    return key if key is not None and is_right and key.revoked_at is None else None


def has_keys(database: Database) -> bool:
    """Whether there is any that is not revoked."""
    with database.read() as session:
        return session.scalar(select(Key.id).where(Key.revoked_at.is_(None)).limit(1)) is not None


def _digest(key: str) -> str:
    """Keys are long and random, so one round of a fast hash is as good as many."""
    return hashlib.sha256(key.encode()).hexdigest()
