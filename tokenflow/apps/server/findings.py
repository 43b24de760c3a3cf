"""What is found out about an upload."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Inspected:
    """What a clip is.

    Attributes:
        frames: that would be edited.
        width: at the working size, in pixels.
        height: at the working size, in pixels.
        duration: of the edited part, in seconds.
    """

    frames: int
    width: int
    height: int
    duration: float


@dataclass(frozen=True)
class Refused:
    """Why an upload is not taken: a status of HTTP and a line."""

    status: int
    message: str
