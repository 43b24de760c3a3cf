"""train_lora(): images and a caption become a LoRA, by the loss that the model itself was trained with."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tokenflow.config import LoRATraining
from tokenflow.config import Model as ModelSettings
from tokenflow.diffusion.batches import as_tensor
from tokenflow.diffusion.conditioning import Conditioning, stack
from tokenflow.errors import ClipError, ClipNotFoundError, ConfigError, OutputError
from tokenflow.events import Cancel, Listener, listening, notice, progress, raise_if_cancelled
from tokenflow.models.checkpoints.publishing import open_repository, upload
from tokenflow.models.checkpoints.reasons import first_line
from tokenflow.models.loading import load_model
from tokenflow.models.model import Model
from tokenflow.models.placement import choose_device
from tokenflow.models.prompt_weights import plain_text
from tokenflow.pipeline.generation import generate
from tokenflow.pipeline.lora_card import model_card
from tokenflow.store.files import output_errors, write_atomically, write_text
from tokenflow.video.images.files import find_images

WEIGHTS = "pytorch_lora_weights.safetensors"
"""What diffusers calls a LoRA's file."""

STATE = "training_state.safetensors"
CARD = "README.md"
SAMPLES = "samples"
ADAPTER = "trained"

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CLIP_GRADIENT = 1.0

KEPT_EMPTY = 0.1
"""Share of the kept images that have an empty caption, which guidance moves away from and which should stay as well."""


@dataclass(frozen=True)
class Example:
    """An image to learn: its latents 1 c h w, its caption's conditioning, and that of an empty one, if it may be used
    instead."""

    latents: Tensor
    conditioning: Conditioning
    empty: Conditioning | None = None


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
    pictures = _read_images(settings.images, settings.caption)
    for prompt in (*settings.samples, *settings.keep, *(caption for _, caption in pictures)):
        plain_text(prompt)  # refuses negative weights
    _make_output(settings.output)
    if settings.push:  # says now if it cannot be
        open_repository(settings.push, private=settings.private)
    with listening(on_event):
        model = _load(settings, on_event)
        model.schedule.training_batch(torch.zeros(1, 1, 2, 2), torch.Generator())  # refuses what cannot be trained
        run = _Run(settings, model, pictures)
        run.resume()
        kept = _kept_examples(settings, model, on_event)
        examples = _examples(settings, model, pictures)
        losses = run.train(examples, kept, on_event, cancel)
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


class _Run:
    """A LoRA in training: its weights and optimiser, saved and restored together.

    Attributes:
        done: steps taken.
    """

    def __init__(self, settings: LoRATraining, model: Model, pictures: Sequence[tuple[Path, str]]) -> None:
        self._settings = settings
        self._model = model
        self._content = _content(settings, model, pictures)
        network = model.network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)  # of the LoRA's first weights
            network.add_adapter(_lora_config(network, settings), ADAPTER)
        for parameter in self._parameters():
            parameter.data = parameter.data.float()
        if settings.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        self._optimiser = torch.optim.AdamW(self._parameters(), settings.learning_rate)
        self.done = self._saved = 0
        self._is_whole = True  # False while some parameters have taken a step that others have not

    def train(
        self, examples: list[Example], kept: list[Example], on_event: Listener | None, cancel: Cancel | None
    ) -> list[float]:
        """Take the steps that are left; the loss of each."""
        settings, losses = self._settings, []
        with progress("train", settings.steps, on_event, initial=self.done) as advance:
            try:
                while self.done < settings.steps:
                    raise_if_cancelled(cancel)
                    losses.append(self._step(examples, kept))
                    advance(1)
                    if self.done % settings.sample_every == 0 or self.done == settings.steps:
                        self._save()
                        self._write_samples()
            except BaseException:  # Ctrl-C as well
                if self._is_whole and self.done > self._saved:
                    self._save()
                raise
        return losses

    def _step(self, examples: list[Example], kept: list[Example]) -> float:
        """One step of the optimiser, which depends on the seed and the number of the step alone."""
        settings = self._settings
        generator = torch.Generator().manual_seed(settings.seed + 1 + self.done)
        drawn = [
            *_draw(examples, settings.batch_size, settings.empty_captions, generator),
            *_draw(kept, settings.batch_size, KEPT_EMPTY, generator),
        ]
        latents = torch.cat([each.latents for each in drawn])
        batch = self._model.schedule.training_batch(latents, generator)
        conditioning = stack([each.conditioning for each in drawn])
        prediction = self._model.training_prediction(batch.noisy, batch.times, conditioning)
        target = batch.target.to(prediction)
        if kept:  # what the model without the LoRA says of these, in place of what is there
            first = settings.batch_size
            target[first:] = self._unchanged_prediction(
                batch.noisy[first:], batch.times[first:], conditioning.from_branch(first)
            )
        loss = F.mse_loss(prediction, target)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters(), CLIP_GRADIENT)
        self._is_whole = False
        self._optimiser.step()
        self.done += 1
        self._is_whole = True
        return float(loss.detach())

    def _unchanged_prediction(self, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        """What the model without the LoRA predicts: b c h w."""
        network = self._model.network
        network.disable_adapters()
        try:
            with torch.no_grad():
                return self._model.training_prediction(noisy, times, conditioning)
        finally:
            network.enable_adapters()

    def resume(self) -> None:
        """Go on from the saved state, if there is one.

        Raises:
            ConfigError: it is of other settings, images or another model, or damaged.
        """
        file = self._settings.output / STATE
        if not file.exists():
            return
        try:
            with safe_open(file, "pt") as opened:
                header = opened.metadata()
            before, self.done, tensors = json.loads(header["content"]), int(header["done"]), load_file(file)
            changes = _changes(before, self._content)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"the state of an earlier training in {str(file)!r} cannot be read ({first_line(error)}); delete "
                f"{self._settings.output} to train from the beginning, or choose another output"
            ) from error
        if changes:
            raise ConfigError(
                f"{self._settings.output} holds a training run with other settings ({'; '.join(changes)}); choose "
                "another output, or delete the folder"
            )
        self._saved = self.done
        set_peft_model_state_dict(self._model.network, _under(tensors, "lora."), ADAPTER)
        state = self._optimiser.state_dict()
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, "optimiser.").items():
            index, slot = name.split(".")
            slots.setdefault(int(index), {})[slot] = value
        self._optimiser.load_state_dict({"state": slots, "param_groups": state["param_groups"]})

    def _save(self) -> None:
        """The LoRA for use, its card, and the state to go on from."""
        settings = self._settings
        lora = self._weights()
        tensors = {f"lora.{name}": value for name, value in lora.items()}
        for index, slots in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{slot}": value for slot, value in slots.items()}
        _write(tensors, settings.output / STATE, {"content": json.dumps(self._content), "done": str(self.done)})
        part = _part(self._model.network)
        named = {f"{part}.{name}": value for name, value in lora.items()}
        _write(named, settings.output / WEIGHTS, {"format": "pt"})
        write_text(settings.output / CARD, model_card(settings, self.done))
        self._saved = self.done

    def _weights(self) -> dict[str, Tensor]:
        return dict(get_peft_model_state_dict(self._model.network, adapter_name=ADAPTER))

    def _write_samples(self) -> None:
        """One row of images of the sample prompts."""
        prompts = self._settings.samples
        if not prompts:
            return
        images = [generate(self._model, prompt, seed=self._settings.seed)[0] for prompt in prompts]
        folder = self._settings.output / SAMPLES
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.hstack(images)).save(folder / f"{self.done:06d}.png")

    def _parameters(self) -> list[nn.Parameter]:
        return [each for each in self._model.network.parameters() if each.requires_grad]


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


def _read_images(folder: Path, caption: str) -> list[tuple[Path, str]]:
    """The images of a folder with their captions.

    Raises:
        ClipNotFoundError: there is no such folder.
        ClipError: it has no image, or an image or a caption cannot be read.
    """
    if not folder.is_dir():
        raise ClipNotFoundError(f"there is no folder {str(folder)!r}; set images to a folder of images")
    files = find_images(folder)
    if not files:
        raise ClipError(f"{str(folder)!r} has no images; expected files such as .png or .jpg: set images to another")
    for file in files:
        _decoded(file)  # now rather than once images to keep are made
    return [(file, _caption(file.with_suffix(".txt"), caption)) for file in files]


def _caption(file: Path, default: str) -> str:
    """The caption in a text file; the default if there is no such file."""
    if not file.is_file():
        return default
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ClipError(f"the caption {str(file)!r} cannot be read ({error}); save it as text in UTF-8") from error


def _examples(settings: LoRATraining, model: Model, pictures: Sequence[tuple[Path, str]]) -> list[Example]:
    """The images to learn, each with its caption; and, for the share of empty captions, with an empty one."""
    side = _side(settings, model)
    size = side, side
    condition = partial(model.condition, size=size)
    examples = []
    for file, caption in pictures:
        image = _square(file, side)
        views = [image, np.ascontiguousarray(image[:, ::-1])] if settings.flip else [image]
        for view in views:
            latents = model.encode(as_tensor(view[None])).cpu()
            examples.append(Example(latents, condition(caption), condition("")))
    return examples


def _draw(
    examples: Sequence[Example], count: int, empty_captions: float, generator: torch.Generator
) -> Iterator[Example]:
    """So many of them at random, a share with an empty caption; none if there are none."""
    if not examples:
        return
    for index in torch.randint(len(examples), (count,), generator=generator).tolist():
        example = examples[index]
        is_empty = example.empty is not None and float(torch.rand((), generator=generator)) < empty_captions
        yield Example(example.latents, example.empty) if is_empty and example.empty is not None else example


def _kept_examples(settings: LoRATraining, model: Model, on_event: Listener | None) -> list[Example]:
    """Images of the prompts that should stay as they are, made by the model without the LoRA."""
    if not settings.keep:
        return []
    side, examples = _side(settings, model), []
    model.network.disable_adapters()
    for prompt in settings.keep:
        images = generate(
            model, prompt, size=(side, side), seed=settings.seed, count=settings.keep_images, on_event=on_event
        )
        conditioning, empty = (model.condition(text, size=(side, side)) for text in (prompt, ""))
        examples += [Example(each[None], conditioning, empty) for each in model.encode(as_tensor(images)).cpu()]
    model.network.enable_adapters()
    return examples


def _lora_config(network: Any, settings: LoRATraining) -> LoraConfig:
    every = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    ]
    targets = every if settings.layers == "all" else list(ATTENTION)
    return LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=targets, init_lora_weights="gaussian")


def _side(settings: LoRATraining, model: Model) -> int:
    side = settings.size or model.native_size
    return max(model.size_multiple, side // model.size_multiple * model.size_multiple)


def _square(file: Path, side: int) -> np.ndarray:
    """The middle of an image as side × side pixels: H W 3 uint8."""
    return np.asarray(ImageOps.fit(_decoded(file), (side, side), Image.Resampling.LANCZOS))


def _decoded(file: Path) -> Image.Image:
    """An image in RGB, the right way up.

    Raises:
        ClipError: the file cannot be read as an image.
    """
    try:
        with Image.open(file) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's own for some damages of PNG
        raise ClipError(f"the image {str(file)!r} cannot be read ({error}); replace or remove it") from error


def _content(settings: LoRATraining, model: Model, pictures: Sequence[tuple[Path, str]]) -> dict[str, Any]:
    """Everything that the LoRA after a number of steps depends on, by name."""
    kept = {"keep", "keep_images"} if settings.keep else set()
    names = {"learning_rate", "batch_size", "rank", "layers", "size", "flip", "empty_captions", "seed", *kept}
    return {
        **settings.model_dump(mode="json", include=names),
        "images": [(hashlib.sha256(file.read_bytes()).hexdigest()[:16], caption) for file, caption in pictures],
        "model": model.fingerprint,
    }


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two trainings, in words."""
    now = json.loads(json.dumps(now))
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    said = {"images": "other images or captions", "model": "another model"}
    return [said.get(name, f"{name}: {before.get(name)}, now {now.get(name)}") for name in names]


def _part(network: Any) -> str:
    """What diffusers calls the network among a pipeline's parts."""
    return "unet" if type(network).__name__.startswith("UNet") else "transformer"


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _write(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
    with write_atomically(file) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary, metadata)
