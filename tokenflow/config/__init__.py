"""Settings: their types, defaults and descriptions, and reading them from files, environment and command line."""

from tokenflow.config.reading import WORDS, load_config, load_training, read_settings, resolve
from tokenflow.config.renamed import rename_layer
from tokenflow.config.settings import (
    PRESETS,
    Clip,
    Config,
    ControlNet,
    ControlUnit,
    Edit,
    Inversion,
    Keyframes,
    LoRA,
    Model,
    Output,
    PnP,
    Region,
    SDEdit,
    TextualInversion,
)
from tokenflow.config.training_settings import LoRATraining

__all__ = [
    "PRESETS",
    "WORDS",
    "Clip",
    "Config",
    "ControlNet",
    "ControlUnit",
    "Edit",
    "Inversion",
    "Keyframes",
    "LoRA",
    "LoRATraining",
    "Model",
    "Output",
    "PnP",
    "Region",
    "SDEdit",
    "TextualInversion",
    "load_config",
    "load_training",
    "read_settings",
    "rename_layer",
    "resolve",
]
