"""Load Model: a folder, a file or a Hub id becomes a model."""

from typing import Any

from comfy import model_management
from comfy_api.latest import io

import tokenflow
from tokenflow.config import Model as Settings

from ..host.chooser import Chooser, content_fingerprint
from ..host.folders import CONFIG, INDEX, found_file, model_files, model_folders
from ..host.memory import room_for
from ..host.running import at_work
from ..host.schema import advanced, schema
from ..host.types import LORAS, MODEL, TEXTUAL_INVERSIONS
from ..host.widgets import AUTO, settings, widget

CHOOSER = Chooser(
    "model",
    ("checkpoints", "diffusion_models"),
    "a model",
    "a folder in diffusers' layout, a .safetensors file, or a Hub id, which is downloaded",
    folders=("diffusers", INDEX),
    default="stable-diffusion-v1-5/stable-diffusion-v1-5",
)

ADVANCED = "tiling", "base", "revision", "variant", "prediction_type"
NEWER = "quantization", "text_encoder_quantization", "compile"
"""In the order in which workflows keep their values, these after `few_step`: new ones come last."""


class LoadModel(io.ComfyNode):
    """A model, on the device that ComfyUI computes on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Widgets of the settings `model`."""
        vae = io.Combo.Input(
            "vae",
            options=[AUTO, *model_files("vae"), *model_folders("vae", CONFIG)],
            default=AUTO,
            tooltip="An autoencoder in place of the model's own; auto for the model's own.",
        )
        few_step = widget(
            Settings,
            "few_step",
            tooltip="Whether the model was distilled to sample in a few steps, and so cannot be inverted; auto to go "
            "by its scheduler. Choose yes for checkpoints with Lightning or Hyper weights.",
        )
        return schema(
            "LoadModel",
            "Load Model",
            search_words=("checkpoint", "diffusers", "stable diffusion", "sana", "flux"),
            description="Loads Stable Diffusion 1.x, 2.x, XL, Sana or FLUX to edit clips with.",
            inputs=[
                LORAS.Input("loras", optional=True, tooltip="They act on edits; the model without them inverts."),
                TEXTUAL_INVERSIONS.Input("textual_inversions", optional=True, tooltip="Words for its prompts."),
                *CHOOSER.widgets(),
                widget(Settings, "dtype"),
                widget(Settings, "offload"),
                *advanced(
                    vae,
                    *(widget(Settings, name) for name in ADVANCED),
                    few_step,
                    *(widget(Settings, name) for name in NEWER),
                ),
            ],
            outputs=[MODEL.Output(display_name="model", tooltip="For Invert, whose edits are made with it.")],
        )

    @classmethod
    def fingerprint_inputs(cls, **given: Any) -> str:
        """Changes with the content of the files, so that a model that was replaced is loaded again.

        Widgets and linked nodes are ComfyUI's own to compare.
        """
        vae = "" if given["vae"] in (None, AUTO) else found_vae(given["vae"])
        return " ".join([CHOOSER.fingerprint(given), content_fingerprint(vae), content_fingerprint(given["base"])])

    @classmethod
    def execute(cls, loras: Any = (), textual_inversions: Any = (), **given: Any) -> io.NodeOutput:
        """Load it; ComfyUI is asked for as much memory as its weights take."""
        path = CHOOSER.path(given)
        vae = None if given["vae"] == AUTO else found_vae(given["vae"])
        options = settings(Settings, {name: given[name] for name in ("dtype", "offload", *ADVANCED, "few_step")})
        parts = [path, vae, options["base"], *(each.path for each in loras)]
        with at_work(room_for(filter(None, parts), offload=options["offload"])) as listener:
            model = tokenflow.load_model(
                path,
                **options,
                vae=vae,
                loras=loras,
                textual_inversions=textual_inversions,
                device=str(model_management.get_torch_device()),
                on_event=listener,
            )
        return io.NodeOutput(model)


def found_vae(name: str) -> str:
    """The path of an autoencoder in ComfyUI's folders.

    Raises:
        ValueError: it is no longer there.
    """
    found = model_folders("vae", CONFIG).get(name) or found_file(name, ("vae",))
    if found is None:
        raise ValueError(f"the autoencoder {name!r} is no longer in ComfyUI's folders; choose another")
    return found
