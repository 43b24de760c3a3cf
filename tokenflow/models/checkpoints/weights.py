"""The weights of a part of a model: which variant is read, and whether they are all there."""

import json
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from tokenflow.errors import ModelError
from tokenflow.models.checkpoints.file_kinds import is_file_name
from tokenflow.models.checkpoints.reasons import DAMAGED, first_line
from tokenflow.models.placement import choose_device

DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"
"""What each library calls weights."""

STEM = rf"(?:{DIFFUSERS}|{TRANSFORMERS})"
SHARD = r"-\d{5}-of-\d{5}"
NUMBER = re.compile(r"-\d{5}-of-(\d{5})")
WEIGHTS = re.compile(rf"{STEM}(?:\.([\w-]+?))?(?:{SHARD})?(?:\.([\w-]+))?\.safetensors")
"""Weights of diffusers or transformers: the variant stands before the number of a shard, in old files behind it."""

INDEX = re.compile(rf"{STEM}\.safetensors\.index(?:\.([\w-]+))?\.json|{STEM}(?:\.safetensors)?\.([\w-]+)\.index\.json")
"""Which weights are in which shard; its variant is in one place or the other."""

PLAIN = ""
"""The variant without a name: full precision, averaged weights."""

PICKLES = (".bin", ".ckpt", ".pt", ".pth")


def choose_variant(files: Iterable[str], wanted: str | None, dtype: torch.dtype) -> str | None:
    """The variant to read of a part's weights; None if none of the files are weights.

    Args:
        files: names of the files in the part's folder.
        wanted: the variant to take if it is there.
        dtype: the precision that the weights are loaded in, whose own variant is half as large to download.
    """
    found = {_variant(WEIGHTS, name) for name in files} - {None}
    half = ["fp16"] if dtype == torch.float16 else []
    order = [wanted, *half, PLAIN, "ema", "fp16", "bf16", *sorted(found - {"non_ema"}, key=str), "non_ema"]
    return next((variant for variant in order if variant in found), None)


def files_of_variant(files: Iterable[str], variant: str) -> list[str]:
    """Those of a part's files that hold the weights of a variant, with the index of its shards."""
    return [name for name in files if variant in (_variant(WEIGHTS, name), _variant(INDEX, name))]


def missing_shard(files: Iterable[str], variant: str) -> str | None:
    """The name of a shard of a variant's weights that is not among a part's files; None if they are all there."""
    weights = {name for name in files if _variant(WEIGHTS, name) == variant}
    totals = {name: match[1] for name in weights if (match := NUMBER.search(name))}
    if len(totals) < len(weights):  # one file has them all
        return None
    shards = {
        NUMBER.sub(f"-{number:05}-of-{total}", name)
        for name, total in totals.items()
        for number in range(1, int(total) + 1)
    }
    return min(shards - weights, default=None)


def named(files: Iterable[str], stem: str) -> list[str]:
    """Those of a part's files that have the name under which a library reads weights, `DIFFUSERS` or `TRANSFORMERS`."""
    return [name for name in files if name.startswith((f"{stem}.", f"{stem}-"))]


def why_no_weights(files: Collection[str], stem: str) -> str:
    """What a part has in place of weights of that name, and what to do, as the end of a sentence.

    Args:
        files: names of the files in the part's folder.
        stem: the name, as in `named`.
    """
    others = sorted(name for name in files if is_file_name(name))
    if others:
        return f"has {others[0]}, a name that is not read; rename it to {stem}.safetensors"
    pickles = sorted(name for name in files if name.lower().endswith(PICKLES))
    found = f"has only {pickles[0]}, a pickle, which tokenflow never opens" if pickles else "has none"
    return f"{found}; download or convert it in safetensors form"


def weight_names(folder: Path, variant: str) -> set[str]:
    """The names of the weights of a variant in a network's folder; none of a file that is damaged."""
    names = set[str]()
    for file in files_of_variant((each.name for each in folder.iterdir()), variant):
        with suppress(SafetensorError, OSError), safe_open(folder / file, "pt") as weights:
            names |= {*weights.keys()}
    return names


def _variant(pattern: re.Pattern[str], name: str) -> str | None:
    match = pattern.fullmatch(name)
    return match and (match[1] or match[2] or PLAIN)


def load_weights(
    what: str, setting: str, network_class: Any, folder: Path, variant: str, dtype: torch.dtype
) -> tuple[Any, list[str]]:
    """A network from its folder, and the names of weights there that it does not use.

    Args:
        what: names the network in errors, such as `the unet of 'someone/model'`.
        setting: names it, too.
        network_class: of diffusers or transformers.
        folder: has config.json and the weights.
        variant: of the weights.
        dtype: precision to load in.

    Raises:
        ModelError: weights are missing, damaged, do not fit the configuration, or are quantised by what this machine
            does not have.
    """
    if _is_of_bitsandbytes(folder):
        _check_bitsandbytes(what, setting, network_class)
    try:
        network, report = network_class.from_pretrained(
            folder, variant=variant or None, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except DAMAGED as error:
        misfit = "ignore_mismatched_sizes" in str(error)  # which both libraries advise to set
        reason = "its weights do not fit its config.json" if misfit else first_line(error)
        raise ModelError(
            f"{what} cannot be loaded ({reason}); download it again, or set {setting} to another"
        ) from error
    check_complete(what, setting, [*report["missing_keys"], *without_values(network)])
    return network, sorted(report["unexpected_keys"])


def _is_of_bitsandbytes(folder: Path) -> bool:
    """Whether the weights in a folder are quantised by bitsandbytes, which its config.json says."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return bool(config.get("quantization_config", {}).get("quant_method") == "bitsandbytes")
    except (OSError, ValueError, AttributeError):  # reading the weights tells what is wrong with it
        return False


def _check_bitsandbytes(what: str, setting: str, network_class: Any) -> None:
    """Refuse a network that bitsandbytes quantised where it cannot be read.

    Raises:
        ModelError: the package is missing; or there is no GPU, which diffusers needs for it, unlike transformers.
    """
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            f"{what} is quantised by bitsandbytes, which is not installed; install it with: pip install bitsandbytes, "
            f"or set {setting} to a model in full precision, with model.quantization=int8 to make it smaller"
        )
    if network_class.__module__.startswith("diffusers") and choose_device("auto").type == "cpu":
        raise ModelError(
            f"{what} is quantised by bitsandbytes, which diffusers reads on a GPU only, and this machine has none; set "
            f"{setting} to a model in full precision, with model.quantization=int8 to make it smaller"
        )


def check_complete(what: str, setting: str, missing: Collection[str]) -> None:
    """Refuse a network some of whose weights were not in its files, by their names."""
    if missing:
        raise ModelError(
            f"{what} lacks {len(set(missing))} of its weights, such as {min(missing)}; download it again, or set "
            f"{setting} to another"
        )


def without_values(network: nn.Module) -> list[str]:
    """The names of weights that were not in a network's files."""
    return [name for name, parameter in network.named_parameters() if parameter.is_meta]
