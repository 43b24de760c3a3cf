"""Edit a video by a sentence, consistently over time.

config = tokenflow.load_config("configs/dog_to_tiger.yaml", ["edit.steps=30"])
inversion = tokenflow.preprocess(config)
result = tokenflow.edit(config)
"""

from tokenflow.config import Config, load_config
from tokenflow.errors import TokenflowError, TokenflowWarning
from tokenflow.pipeline import EditResult, PreprocessResult, edit, preprocess

__all__ = [
    "Config",
    "EditResult",
    "PreprocessResult",
    "TokenflowError",
    "TokenflowWarning",
    "edit",
    "load_config",
    "preprocess",
]
