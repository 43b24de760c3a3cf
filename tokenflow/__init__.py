"""Edit a video by a sentence, consistently over time.

config = tokenflow.load_config("configs/dog_to_tiger.yaml", ["edit.steps=30"])
inversion = tokenflow.preprocess(config)
result = tokenflow.edit(config)
records = tokenflow.edit_many(configs, workers=2)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenflow.batch import Record, edit_many, read_configs
    from tokenflow.config import Config, load_config
    from tokenflow.errors import TokenflowError, TokenflowWarning
    from tokenflow.pipeline import EditResult, PreprocessResult, edit, open_result, preprocess

__all__ = [
    "Config",
    "EditResult",
    "PreprocessResult",
    "Record",
    "TokenflowError",
    "TokenflowWarning",
    "edit",
    "edit_many",
    "load_config",
    "open_result",
    "preprocess",
    "read_configs",
]

_HOMES = {
    "Config": "config",
    "Record": "batch",
    "TokenflowError": "errors",
    "TokenflowWarning": "errors",
    "edit_many": "batch",
    "load_config": "config",
    "read_configs": "batch",
}
"""Modules of the names above; all others are the pipeline's."""


def __getattr__(name: str) -> Any:
    """Import a name once it is asked for: torch takes seconds, for which neither `--help` nor Ctrl-C should wait."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'pipeline')}"), name)
