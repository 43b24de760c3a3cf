"""How a pool of workers is told what to do: plain values, on one line of its standard input."""

import json
from dataclasses import asdict, dataclass
from typing import Literal, Self

EngineName = Literal["local", "ray"]


@dataclass(frozen=True)
class PoolOptions:
    """How a pool works.

    Attributes:
        data: the folder of the service.
        database: its URL.
        workers: how many; None for one per GPU, or one.
        engine: processes of this machine, or Ray.
        address: of a Ray cluster.
        gpus: per worker on Ray.
    """

    data: str
    database: str
    workers: int | None
    engine: EngineName
    address: str | None
    gpus: float | None

    def to_line(self) -> bytes:
        """As `from_line` reads them."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """The options that `to_line` wrote."""
        return cls(**json.loads(line))
