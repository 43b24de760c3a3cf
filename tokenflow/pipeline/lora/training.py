"""train_lora(): images and a caption become a LoRA."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tokenflow.config import LoRATraining
from tokenflow.config import Model as ModelSettings
from tokenflow.errors import ConfigError, OutputError
from tokenflow.events import Cancel, Listener, listening, notice
from tokenflow.models.checkpoints.publishing import open_repository, upload
from tokenflow.models.loading import load_model
from tokenflow.models.model import Model
from tokenflow.models.placement import choose_device
from tokenflow.models.prompt_weights import plain_text
from tokenflow.pipeline.lora.card import CARD, model_card
from tokenflow.pipeline.lora.examples import encode_images, make_kept_images, read_images
from tokenflow.pipeline.lora.run import SAMPLES, WEIGHTS, TrainingRun
from tokenflow.pipeline.lora.state import STATE, inputs_of
from tokenflow.store.files import output_errors, write_text


@dataclass(frozen=True)
class TrainedLoRA:
    """What training left in its folder.

    Attributes:
        file: the LoRA, in diffusers' format.
        steps: how many were taken in all, by earlier calls too.
        loss: the mean over this call's steps; None if there was nothing left to do.
        address: of its repository on the Hub, if it was pushed.
    """

    file: Path
    steps: int
    loss: float | None
    address: str | None = None


def train_lora(
    settings: LoRATraining, *, on_event: Listener | None = None, cancel: Cancel | None = None
) -> TrainedLoRA:
    """Train a LoRA on a folder of images; continue if the folder of the result has an unfinished one.

    Args:
        settings: of the training.
        on_event: called with each event (see `tokenflow.events`).
        cancel: asked before every step; returning True raises `Cancelled`. However training ends, its state is kept.

    Raises:
        ClipError, ClipNotFoundError: the images or captions cannot be read.
        ModelError, ModelNotFoundError: the model cannot be used, or was distilled to few steps.
        ConfigError: the folder holds the training of other settings, `push` is not owner/name, the model is set to
            something that training cannot do, or a prompt has a negative weight.
        OutputError: nothing can be written there, or to the Hub; or the folder has another LoRA.
    """
    _check_model(settings.model)
    images = read_images(settings.images, settings.caption)
    for prompt in (*settings.samples, *settings.keep, *(each.caption for each in images)):
        plain_text(prompt)  # refuses negative weights
    _make_output(settings.output)
    if settings.push:  # says now if it cannot be
        open_repository(settings.push, private=settings.private)
    with listening(on_event):
        model = _load(settings, on_event)
        model.schedule.training_batch(torch.zeros(1, 1, 2, 2), torch.Generator())  # refuses what cannot be trained
        run = TrainingRun(settings, model, inputs_of(settings, model, images))
        kept = make_kept_images(settings, model, on_event)
        losses = run.train(encode_images(settings, model, images), kept, on_event, cancel)
        if run.done > settings.steps:
            notice(f"{settings.output} has a LoRA of {run.done} steps already, so it stays as it is; raise steps")
        address = _push(settings, run.done) if settings.push else None
    loss = float(np.mean(losses)) if losses else None
    return TrainedLoRA(settings.output / WEIGHTS, run.done, loss, address)


def _push(settings: LoRATraining, steps: int) -> str:
    """Upload what a training left, with a card that names the repository."""
    write_text(settings.output / CARD, model_card(settings, steps))
    message = f"LoRA after {steps} steps"
    return upload(settings.push or "", settings.output, [WEIGHTS, CARD, f"{SAMPLES}/*"], message)


def _load(settings: LoRATraining, on_event: Listener | None) -> Model:
    """The model, by default in a precision in which small gradients do not vanish."""
    model = settings.model
    on_cuda = choose_device(model.device).type == "cuda"
    dtype = ("bfloat16" if on_cuda else "float32") if model.dtype == "auto" else model.dtype
    return load_model(
        model.path,
        device=model.device,
        dtype=dtype,
        base=model.base,
        revision=model.revision,
        variant=model.variant,
        vae=model.vae,
        prediction_type=model.prediction_type,
        few_step=model.few_step,
        textual_inversions=model.textual_inversions,
        text_encoder_quantization=model.text_encoder_quantization,
        tiling=model.tiling,
        on_event=on_event,
    )


def _check_model(model: ModelSettings) -> None:
    """Refuse what changes the network that is trained.

    Raises:
        ConfigError: it is set.
    """
    for name in ("loras", "quantization", "offload", "compile"):
        if getattr(model, name):
            raise ConfigError(f"train-lora trains on the plain model; remove model.{name}")


def _make_output(folder: Path) -> None:
    """Make the folder of the result.

    Raises:
        OutputError: it cannot be made, or has a LoRA or a card that no training left.
    """
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    found = [name for name in (WEIGHTS, CARD) if (folder / name).exists()]
    if found and not (folder / STATE).exists():
        raise OutputError(
            f"{folder} has a {found[0]} and no {STATE}, so it is from elsewhere and would be overwritten; choose "
            "another output"
        )
