"""Which model family a pipeline's class belongs to: one entry per class name in `FAMILIES`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    Flux2KleinPipeline,
    FluxKontextPipeline,
    FluxPipeline,
    SanaPipeline,
    SanaSprintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

from tokenflow.errors import ModelError
from tokenflow.models.checkpoints.flow_settings import check_flow
from tokenflow.models.checkpoints.refused import why_refused
from tokenflow.models.checkpoints.stable_diffusion_settings import check_stable_diffusion
from tokenflow.models.flux import Flux
from tokenflow.models.flux2 import Flux2
from tokenflow.models.model import Model
from tokenflow.models.placement import Precision
from tokenflow.models.sana import Sana
from tokenflow.models.stable_diffusion import StableDiffusion


@dataclass(frozen=True)
class Family:
    """How a model family is loaded.

    Attributes:
        pipeline: diffusers' text-to-image class, whose parts are loaded.
        networks: those of its parts that have weights.
        model: makes a `Model` of such a pipeline.
        check: called with a model's name, its folder and `prediction_type` before weights are downloaded or read; may
            raise a `ModelError`.
        automatic_half: the precision of its networks where `auto` takes half.
        never_float16: networks that overflow in it, and are loaded in bfloat16 instead.
    """

    pipeline: Any
    networks: tuple[str, ...]
    model: Callable[..., Model]
    check: Callable[[str, Path, str | None], None]
    automatic_half: torch.dtype = torch.float16
    never_float16: tuple[str, ...] = ()

    def dtypes(self, precision: Precision) -> dict[str, torch.dtype]:
        """The precision that each network is loaded in."""
        if precision.dtype != torch.float16:
            return dict.fromkeys(self.networks, precision.dtype)
        half = self.automatic_half if precision.is_automatic else torch.float16
        return {part: torch.bfloat16 if part in self.never_float16 else half for part in self.networks}


STABLE_DIFFUSION = Family(
    StableDiffusionPipeline, ("unet", "vae", "text_encoder"), StableDiffusion, check_stable_diffusion
)
STABLE_DIFFUSION_XL = Family(
    StableDiffusionXLPipeline,
    (*STABLE_DIFFUSION.networks, "text_encoder_2"),
    StableDiffusion,
    check_stable_diffusion,
)
SANA = Family(
    SanaPipeline,
    ("transformer", "vae", "text_encoder"),
    Sana,
    check_flow,
    automatic_half=torch.bfloat16,
    never_float16=("vae", "text_encoder"),
)
SANA_SPRINT = replace(SANA, pipeline=SanaSprintPipeline)
FLUX = Family(
    FluxPipeline,
    ("transformer", "vae", "text_encoder", "text_encoder_2"),
    Flux,
    check_flow,
    automatic_half=torch.bfloat16,
    never_float16=("text_encoder", "text_encoder_2"),
)
FLUX_KONTEXT = replace(FLUX, pipeline=FluxKontextPipeline)
FLUX_2 = replace(
    FLUX,
    pipeline=Flux2KleinPipeline,
    networks=("transformer", "vae", "text_encoder"),
    model=Flux2,
    never_float16=("text_encoder",),
)

FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": STABLE_DIFFUSION,
    "StableDiffusionImg2ImgPipeline": STABLE_DIFFUSION,
    "StableDiffusionInpaintPipeline": STABLE_DIFFUSION,
    "StableDiffusionControlNetPipeline": STABLE_DIFFUSION,
    "StableDiffusionPAGPipeline": STABLE_DIFFUSION,
    "LatentConsistencyModelPipeline": STABLE_DIFFUSION,
    "StableDiffusionXLPipeline": STABLE_DIFFUSION_XL,
    "StableDiffusionXLImg2ImgPipeline": STABLE_DIFFUSION_XL,
    "StableDiffusionXLInpaintPipeline": STABLE_DIFFUSION_XL,
    "StableDiffusionXLControlNetPipeline": STABLE_DIFFUSION_XL,
    "StableDiffusionXLPAGPipeline": STABLE_DIFFUSION_XL,
    "SanaPipeline": SANA,
    "SanaPAGPipeline": SANA,
    "SanaControlNetPipeline": SANA,
    "SanaSprintPipeline": SANA_SPRINT,
    "SanaSprintImg2ImgPipeline": SANA_SPRINT,
    "FluxPipeline": FLUX,
    "FluxImg2ImgPipeline": FLUX,
    "FluxInpaintPipeline": FLUX,
    "FluxControlNetPipeline": FLUX,
    "FluxKontextPipeline": FLUX_KONTEXT,
    "FluxKontextInpaintPipeline": FLUX_KONTEXT,
    "Flux2KleinPipeline": FLUX_2,
    "Flux2KleinInpaintPipeline": FLUX_2,
    "Flux2KleinKVPipeline": FLUX_2,
}
"""By the `_class_name` of a model_index.json."""

SUPPORTED = "Stable Diffusion 1.x, 2.x or XL, Sana, SANA-Sprint, FLUX.1 dev, schnell or Kontext, or FLUX.2 [klein]"


def family_of(name: str, class_name: Any, setting: str = "model.path") -> Family:
    """The family of a model by its pipeline's class.

    Args:
        name: of the model, for the error.
        class_name: `_class_name` of its model_index.json.
        setting: that names the model, for the error.

    Raises:
        ModelError: the family is not supported.
    """
    if not isinstance(class_name, str) or class_name not in FAMILIES:  # it is a list where a model brings its code
        reason = why_refused(str(class_name))
        raise ModelError(
            f"the class of the model {name!r} is {class_name or 'not given'}, which is not supported"
            f"{f' ({reason})' if reason else ''}; expected {SUPPORTED}: set {setting} to another"
        )
    return FAMILIES[class_name]
