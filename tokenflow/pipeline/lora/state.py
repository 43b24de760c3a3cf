"""The state of an unfinished training, kept beside its LoRA to go on from."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tokenflow.config import LoRATraining
from tokenflow.errors import ConfigError
from tokenflow.models.checkpoints.reasons import first_line
from tokenflow.models.model import Model
from tokenflow.pipeline.lora.examples import CaptionedImage
from tokenflow.store.files import write_atomically

STATE = "training_state.safetensors"


@dataclass(frozen=True)
class State:
    """What a training goes on from.

    Attributes:
        done: steps taken.
        lora: its weights, by peft's names.
        optimiser: tensors by name, per parameter.
    """

    done: int
    lora: dict[str, Tensor]
    optimiser: dict[int, dict[str, Tensor]]


def inputs_of(settings: LoRATraining, model: Model, images: Sequence[CaptionedImage]) -> dict[str, Any]:
    """Everything that the LoRA after a number of steps depends on, by name; as JSON holds it."""
    kept = {"keep", "keep_images"} if settings.keep else set()
    names = {"learning_rate", "batch_size", "rank", "layers", "size", "flip", "empty_captions", "seed", *kept}
    return {
        **settings.model_dump(mode="json", include=names),
        "images": [[hashlib.sha256(each.file.read_bytes()).hexdigest()[:16], each.caption] for each in images],
        "model": model.fingerprint,
    }


def read_state(folder: Path, inputs: Mapping[str, Any]) -> State | None:
    """The state in a folder; None if it has none.

    Args:
        folder: of the LoRA.
        inputs: of the training that would go on from it.

    Raises:
        ConfigError: it is damaged, or of other settings, images or another model.
    """
    file = folder / STATE
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as opened:
            header = opened.metadata()
        before, done, tensors = json.loads(header["content"]), int(header["done"]), load_file(file)
        changes = _changes(before, inputs)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"the state of an earlier training in {str(file)!r} cannot be read ({first_line(error)}); delete "
            f"{folder} to train from the beginning, or choose another output"
        ) from error
    if changes:
        raise ConfigError(
            f"{folder} holds a training run with other settings ({'; '.join(changes)}); choose another output, or "
            "delete the folder"
        )
    optimiser: dict[int, dict[str, Tensor]] = {}
    for name, value in _under(tensors, "optimiser.").items():
        index, slot = name.split(".")
        optimiser.setdefault(int(index), {})[slot] = value
    return State(done, _under(tensors, "lora."), optimiser)


def write_state(folder: Path, inputs: Mapping[str, Any], state: State) -> None:
    """Write the state to a folder, whole or not at all.

    Raises:
        OutputError: nothing can be written there.
    """
    tensors = {f"lora.{name}": value for name, value in state.lora.items()}
    for index, slots in state.optimiser.items():
        tensors |= {f"optimiser.{index}.{slot}": value for slot, value in slots.items()}
    write_tensors(tensors, folder / STATE, {"content": json.dumps(inputs), "done": str(state.done)})


def write_tensors(tensors: Mapping[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
    """Write tensors to a `.safetensors` file, whole or not at all; OutputError as `write_atomically`."""
    with write_atomically(file) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary, metadata)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two trainings, in words."""
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    said = {"images": "other images or captions", "model": "another model"}
    return [said.get(name, f"{name}: {before.get(name)}, now {now.get(name)}") for name in names]


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
