"""The exceptions and warnings of tokenflow. Knows nothing else of the package.

Each error is also the builtin that fits, so that callers may catch `ValueError` or `FileNotFoundError` without
importing this module. A message says, in one line, what was expected, what came, and what to do.
"""


class TokenflowError(Exception):
    """Base of every error that tokenflow raises for something its user can mend."""


class ConfigError(TokenflowError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class ClipError(TokenflowError, ValueError):
    """A clip can be opened but not used: no picture in it, damaged, or of a size no model takes."""


class ClipNotFoundError(TokenflowError, FileNotFoundError):
    """There is no clip at the given path."""


class ModelError(TokenflowError, ValueError):
    """A model can be opened but not used: a part is missing, or its architecture is not one we know."""


class ModelNotFoundError(TokenflowError, FileNotFoundError):
    """There is no model at the given path, nor one of that name on the hub."""


class TrajectoryError(TokenflowError, RuntimeError):
    """A trajectory on disk is damaged, unfinished, or belongs to another clip, model or version."""


class OutputError(TokenflowError, OSError):
    """A result cannot be written: no permission, no space, or the place is taken."""


class EncodingError(OutputError):
    """Codec, container, size and rate of a video do not go together."""


class BatchError(TokenflowError, ValueError):
    """Jobs that cannot be done together, or cannot be started: each named, before any work."""


class EngineError(TokenflowError, RuntimeError):
    """What should run the jobs cannot: not installed, not reached, or its workers do not start."""


class TokenflowWarning(UserWarning):
    """Something will probably disappoint the user, but the work can go on."""


class WaitingWarning(TokenflowWarning):
    """Another run makes what this one needs, and is waited for."""


class ReconstructionWarning(TokenflowWarning):
    """The inversion does not sample back to its source well."""
