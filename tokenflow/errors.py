"""Exceptions and warnings of tokenflow.

Each error is also the builtin that fits, so callers may catch `ValueError` or `FileNotFoundError` without importing
this module. A message says in one line what was expected, what was found, and what to do.
"""

from collections.abc import Iterable
from pathlib import Path


class TokenflowError(Exception):
    """Base of all errors that the user can fix."""


class ConfigError(TokenflowError, ValueError):
    """A setting is unknown, of the wrong type or out of range.

    Attributes:
        mistakes: those of single settings, each beginning with the setting's key; empty if the error is about no one
            setting. The message has them all.
    """

    def __init__(self, message: str, mistakes: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.mistakes = tuple(mistakes)


class ClipError(TokenflowError, ValueError):
    """A clip cannot be used: it holds no image, is damaged, or has a size that no model takes."""


class ClipNotFoundError(TokenflowError, FileNotFoundError):
    """There is no clip at the given path."""


class ModelError(TokenflowError, ValueError):
    """A model cannot be used: a part is missing, or its architecture is not supported."""


class ModelNotFoundError(TokenflowError, FileNotFoundError):
    """A model was found neither at the given path nor on the Hub."""


class TrajectoryError(TokenflowError, RuntimeError):
    """A stored inversion is damaged, unfinished, or belongs to another clip, model or version."""


class OutputError(TokenflowError, OSError):
    """A result cannot be written: no permission, no space, or a file of the user's is in the way."""


class EncodingError(OutputError):
    """Codec, container, size and frame rate of a video do not go together."""


class BatchError(TokenflowError, ValueError):
    """Jobs cannot run together or cannot start; raised before any work, naming each of them."""


class EngineError(TokenflowError, RuntimeError):
    """The engine cannot run jobs: not installed, not reachable, or its workers do not start."""


class Cancelled(Exception):  # noqa: N818 - a signal, not an error
    """The call was stopped by its `cancel`; a stored inversion keeps its finished levels."""


class TokenflowWarning(UserWarning):
    """The result will probably disappoint, but the work can go on."""


class WaitingWarning(TokenflowWarning):
    """Another process is making what this one needs."""


class ReconstructionWarning(TokenflowWarning):
    """The inversion does not reproduce its source well."""


def looked_in(path: str | Path) -> str:
    """Where a relative path was looked for, as a suffix to its name in an error; empty for an absolute one."""
    return "" if Path(path).is_absolute() else f" in {Path.cwd()}"
