"""How the process of the page is told what to do, on one line of its standard input."""

from typing import Self

from pydantic import BaseModel

from tokenflow.apps.server.settings import ServerSettings


class PageOptions(BaseModel):
    """What the page needs.

    Attributes:
        data: the folder of the service.
        database: its URL.
        port: of this machine alone, at which the server finds the page.
        settings: of the server.
    """

    data: str
    database: str
    port: int
    settings: ServerSettings

    def to_line(self) -> bytes:
        """As `from_line` reads them."""
        return self.model_dump_json().encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """The options that `to_line` wrote."""
        return cls.model_validate_json(line)
