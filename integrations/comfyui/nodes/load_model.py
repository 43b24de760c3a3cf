"""Load Model: a folder, a file or a Hub id becomes a model."""

from typing import Any

from comfy import model_management
from comfy_api.latest import io

import tokenflow
from tokenflow.config import Model as Settings

from ..host.folders import chooser, chosen_path, model_files, weights_size
from ..host.running import Listener, ask_for_memory
from ..host.schema import advanced, schema
from ..host.types import LORAS, MODEL, TEXTUAL_INVERSIONS
from ..host.widgets import AUTO, settings, widget

EXAMPLE = "stable-diffusion-v1-5/stable-diffusion-v1-5"

ADVANCED = "tiling", "base", "revision", "variant", "prediction_type"


class LoadModel(io.ComfyNode):
    """A model, on the device that ComfyUI computes on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Widgets of the settings `model`."""
        vae = io.Combo.Input(
            "vae",
            options=[AUTO, *model_files("vae")],
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
                *chooser("model", "checkpoints", "A model", EXAMPLE, folders=True),
                widget(Settings, "dtype"),
                widget(Settings, "offload"),
                *advanced(vae, *(widget(Settings, name) for name in ADVANCED), few_step),
            ],
            outputs=[MODEL.Output(display_name="model")],
        )

    @classmethod
    def fingerprint_inputs(cls, **given: Any) -> str:
        """Changes with the content of the files, so that a model that was replaced is loaded again."""
        from tokenflow.models.loading import stored_fingerprint  # takes seconds to import

        path, options = _arguments(**given)
        options.pop("offload")
        return stored_fingerprint(path, **options)

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        """Load it; ComfyUI is asked for as much memory as its weights take."""
        path, options = _arguments(**given)
        ask_for_memory(weights_size(path))
        model = tokenflow.load_model(path, **options, on_event=Listener())
        model_management.soft_empty_cache()
        return io.NodeOutput(model)


def _arguments(
    *, model: str, path: str, vae: str, loras: Any = (), textual_inversions: Any = (), **given: Any
) -> tuple[str, dict[str, Any]]:
    """What widgets and links say, as `load_model` takes it; a linked input is None before its node has run."""
    options = settings(Settings, given)
    options |= {"loras": loras or (), "textual_inversions": textual_inversions or ()}
    options["vae"] = None if vae == AUTO else chosen_path(vae, "vae")
    options["device"] = str(model_management.get_torch_device())
    return chosen_path(model, "checkpoints", path), options
