"""Settings: their types, defaults and descriptions, and reading them from files, environment and command line."""

from tokenflow.config.reading import WORDS, load_config, load_training, read_settings, resolve
from tokenflow.config.renamed import rename_layer
from tokenflow.config.sections.clip import Clip
from tokenflow.config.sections.edit import Edit
from tokenflow.config.sections.inversion import Inversion, Trajectories
from tokenflow.config.sections.model import LoRA, Model, TextualInversion
from tokenflow.config.sections.modes import ControlNet, ControlUnit, FlowEdit, Instruct, Keyframes, PnP, SDEdit
from tokenflow.config.sections.output import Output
from tokenflow.config.sections.references import Reference
from tokenflow.config.sections.regions import Region
from tokenflow.config.sections.training import LoRATraining
from tokenflow.config.settings import PRESETS, Config

__all__ = [
    "PRESETS",
    "WORDS",
    "Clip",
    "Config",
    "ControlNet",
    "ControlUnit",
    "Edit",
    "FlowEdit",
    "Instruct",
    "Inversion",
    "Keyframes",
    "LoRA",
    "LoRATraining",
    "Model",
    "Output",
    "PnP",
    "Reference",
    "Region",
    "SDEdit",
    "TextualInversion",
    "Trajectories",
    "load_config",
    "load_training",
    "read_settings",
    "rename_layer",
    "resolve",
]
