"""Edit videos with a text prompt, consistently over time.

    model = tokenflow.load_model("data/models/mini-sd")
    clip = tokenflow.Video.read("data/clips/dog_walk.mp4")
    inverted = tokenflow.invert(clip, model, "a dog on grass, 3d style")
    edited = tokenflow.edit(inverted, "a tiger on grass, 3d style")
    edited.video.write("tiger.mp4")

`tokenflow.run(config)` does the same from a YAML configuration to a result folder.
"""

import logging
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

# Where torchao 0.18 is installed, importing diffusers logs what concerns the developers of both.
for _logger in ("torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
    logging.getLogger(_logger).setLevel(logging.ERROR)

if TYPE_CHECKING:
    from tokenflow.batch import Record, edit_many, read_configs
    from tokenflow.config import (
        Config,
        ControlNet,
        ControlUnit,
        FlowEdit,
        Instruct,
        LoRA,
        PnP,
        SDEdit,
        TextualInversion,
        load_config,
    )
    from tokenflow.errors import Cancelled, TokenflowError, TokenflowWarning
    from tokenflow.events import Notice, Preview, Progress, TerminalBars
    from tokenflow.models.loading import load_model
    from tokenflow.modes.source import InvertedClip
    from tokenflow.pipeline import (
        Edited,
        EditResult,
        Keyframes,
        PreprocessResult,
        Reconstruction,
        Reference,
        Region,
        edit,
        find_regions,
        generate,
        invert,
        open_result,
        preprocess,
        reconstruct,
        run,
        seed_sheet,
    )
    from tokenflow.pipeline.diffusers_pipeline import TokenFlowPipeline
    from tokenflow.pipeline.trial import Trial, trial, trial_sheet
    from tokenflow.video import Video

__all__ = [
    "Cancelled",
    "Config",
    "ControlNet",
    "ControlUnit",
    "EditResult",
    "Edited",
    "FlowEdit",
    "Instruct",
    "InvertedClip",
    "Keyframes",
    "LoRA",
    "Notice",
    "PnP",
    "PreprocessResult",
    "Preview",
    "Progress",
    "Reconstruction",
    "Record",
    "Reference",
    "Region",
    "SDEdit",
    "TerminalBars",
    "TextualInversion",
    "TokenFlowPipeline",
    "TokenflowError",
    "TokenflowWarning",
    "Trial",
    "Video",
    "edit",
    "edit_many",
    "errors",
    "events",
    "find_regions",
    "generate",
    "invert",
    "load_config",
    "load_model",
    "open_result",
    "preprocess",
    "read_configs",
    "reconstruct",
    "run",
    "seed_sheet",
    "trial",
    "trial_sheet",
]

_MODULES = {
    **dict.fromkeys(
        (
            "Config",
            "ControlNet",
            "ControlUnit",
            "FlowEdit",
            "Instruct",
            "LoRA",
            "PnP",
            "SDEdit",
            "TextualInversion",
            "load_config",
        ),
        "config",
    ),
    **dict.fromkeys(("Cancelled", "TokenflowError", "TokenflowWarning"), "errors"),
    **dict.fromkeys(("Notice", "Preview", "Progress", "TerminalBars"), "events"),
    **dict.fromkeys(("Record", "edit_many", "read_configs"), "batch"),
    "InvertedClip": "modes.source",
    "TokenFlowPipeline": "pipeline.diffusers_pipeline",
    "Video": "video",
    "load_model": "models.loading",
}
"""Modules of the names above; all others are the pipeline's."""

try:
    __version__ = metadata.version("tokenflow")
except metadata.PackageNotFoundError:  # a checkout that was not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: torch takes seconds, for which neither `--help` nor Ctrl-C should wait."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("errors", "events"):
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'pipeline')}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
