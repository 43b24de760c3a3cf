"""What a user may ask for: typed settings, and where they are read from. Knows no torch and no model."""

from tokenflow.config.reading import WORDS, load_config, read_settings, resolve
from tokenflow.config.settings import PRESETS, Clip, Config, ControlNet, Edit, Model, Output, PnP, SDEdit

__all__ = [
    "PRESETS",
    "WORDS",
    "Clip",
    "Config",
    "ControlNet",
    "Edit",
    "Model",
    "Output",
    "PnP",
    "SDEdit",
    "load_config",
    "read_settings",
    "resolve",
]
