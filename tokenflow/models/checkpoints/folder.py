"""Folders in diffusers' layout: model_index.json, and a folder for each part of the model."""

import json
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from tokenflow.errors import ModelError
from tokenflow.events import notice
from tokenflow.models.checkpoints.file_kinds import is_file_name
from tokenflow.models.checkpoints.reasons import DAMAGED, first_line
from tokenflow.models.checkpoints.weights import (
    DIFFUSERS,
    TRANSFORMERS,
    choose_variant,
    files_of_variant,
    load_weights,
    missing_shard,
    named,
    why_no_weights,
)
from tokenflow.models.vocabulary import FILE as VOCABULARY

INDEX = "model_index.json"
CONFIG = "config.json"

LIBRARIES = ("diffusers", "transformers")
"""Where the classes of parts may come from; code that a model brings with it is not run."""

IGNORED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts of pipelines that take no part in making images from text."""

UNUSED = (*IGNORED, "controlnet")
"""The same with a part that text-to-image pipelines do not have at all."""

VOCABULARIES = ("tokenizer.json", ".model")
"""How the names of files with a tokenizer's whole vocabulary end."""

PAIR = {"vocab.json", "merges.txt"}
"""The two files of an older form of it."""

SETTINGS = (".json", ".txt", ".model", ".jinja")
"""Suffixes of configurations, vocabularies and chat templates."""


def read_index(name: str, folder: Path, setting: str = "model.path") -> dict[str, Any]:
    """The model_index.json in a folder.

    Args:
        name: of the model, for errors.
        folder: has the file.
        setting: that names the model, for errors.

    Raises:
        ModelError: it is missing or damaged.
    """
    file = folder / INDEX
    if not file.is_file():
        raise ModelError(
            f"the folder {name!r} has no {INDEX}, so it is not a model in diffusers' layout; set {setting} to "
            f"{_folder_meant(folder)}"
        )
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"the model {name!r} cannot be loaded ({INDEX} is damaged: {first_line(error)}); download it again, "
            f"or set {setting} to another"
        ) from error


def _folder_meant(folder: Path) -> str:
    """What a folder without model_index.json was probably named for: a model around it, in it, or one of its files."""
    near = [folder.absolute().parent, *sorted(each.parent for each in folder.glob(f"*/{INDEX}"))]
    models = [each for each in near if (each / INDEX).is_file()]
    if models:
        return f"the model {str(models[0])!r}"
    has_files = any(is_file_name(each.name) for each in folder.iterdir())
    return f"the folder that has one{' or to one of its .safetensors files' if has_files else ''}"


def choose_variants(
    name: str, files: Collection[str], networks: Mapping[str, torch.dtype], wanted: str | None
) -> dict[str, str]:
    """The variant of the weights of each network.

    Args:
        name: of the model, for errors.
        files: of the folder, as paths with slashes relative to it.
        networks: the parts that have weights, and the precision that each is loaded in.
        wanted: the variant to take of parts that have it; None for full precision where there is a choice.

    Raises:
        ModelError: a network has no safetensors weights, or none has the wanted variant.
    """
    chosen = {}
    for part, dtype in networks.items():
        found = _files_of(part, files)
        stem = TRANSFORMERS if part.startswith("text_encoder") else DIFFUSERS
        variant = choose_variant(named(found, stem), wanted, dtype)
        if variant is None:
            raise ModelError(
                f"the model {name!r} needs safetensors weights in {part}/ and {why_no_weights(found, stem)}"
            )
        missing = missing_shard(named(found, stem), variant)
        if missing is not None:
            raise ModelError(f"the model {name!r} lacks {part}/{missing}, one of its shards; download it again")
        chosen[part] = variant
    if wanted is not None and wanted not in chosen.values():
        raise ModelError(
            f"no part of the model {name!r} has weights of the variant {wanted!r}; set model.variant to one that is "
            "there, or to null"
        )
    return chosen


def check_settings(name: str, files: Collection[str], index: Mapping[str, Any], networks: Collection[str]) -> None:
    """Refuse a folder in which the settings of a part are missing, or the vocabulary of a tokenizer.

    Args:
        name: of the model, for errors.
        files: of the folder, as paths with slashes relative to it.
        index: its model_index.json.
        networks: parts whose weights or configurations are used; the VAE may come from elsewhere.

    Raises:
        ModelError: they are missing; transformers would go on with an empty tokenizer.
    """
    for part in (part for part in parts(index) if part != "vae" or part in networks):
        found = _files_of(part, files)
        if part in networks and CONFIG not in found:
            raise ModelError(f"the model {name!r} has no {CONFIG} in {part}/; download it again")
        if not any(file.endswith(".json") for file in found):
            raise ModelError(f"the model {name!r} has nothing in {part}/; download it again")
        whole = any(file.endswith(VOCABULARIES) for file in found) or {*found} >= PAIR
        if part.startswith("tokenizer") and not whole:
            raise ModelError(
                f"the model {name!r} has no vocabulary in {part}/ (tokenizer.json, or vocab.json and merges.txt); "
                "download it again"
            )


def setting_files(files: Collection[str], index: Mapping[str, Any]) -> list[str]:
    """The configurations and vocabularies among a model's files."""
    folders = tuple(f"{part}/" for part in parts(index))
    of_parts = [
        file for file in files if file.startswith(folders) and file.endswith(SETTINGS) and ".index." not in file
    ]
    return [*(file for file in files if file in (INDEX, VOCABULARY)), *of_parts]


def weight_files(files: Collection[str], variants: Mapping[str, str]) -> list[str]:
    """The weights among a model's files, in the variant of each network."""
    return [
        f"{part}/{file}"
        for part, variant in variants.items()
        for file in files_of_variant(_files_of(part, files), variant)
    ]


def open_folder(
    name: str,
    folder: Path,
    pipeline: Any,
    variants: Mapping[str, str],
    dtypes: Mapping[str, torch.dtype],
    replacements: Mapping[str, Any],
) -> Any:
    """The pipeline in a folder.

    Args:
        name: of the model, for errors.
        folder: in diffusers' layout.
        pipeline: diffusers' class of the pipeline.
        variants: of the weights of each network that is loaded from the folder.
        dtypes: precision to load each of them in.
        replacements: networks by part that are used in place of the folder's own.

    Raises:
        ModelError: a part is damaged, incomplete or of an unknown class.
    """
    index = read_index(name, folder)
    networks = dict(replacements)
    for part, variant in variants.items():
        what, part_class = f"the {part} of the model {name!r}", class_of(name, index, part)
        networks[part], surplus = load_weights(what, "model.path", part_class, folder / part, variant, dtypes[part])
        if surplus:
            count = f"{len(surplus)} weight{'s' if len(surplus) > 1 else ''}"
            notice(f"{what} has {count} that {part_class.__name__} does not use, such as {surplus[0]}")
    try:
        return pipeline.from_pretrained(folder, **networks, **{part: None for part in IGNORED if part in index})
    except DAMAGED as error:
        raise ModelError(
            f"the model {name!r} cannot be loaded ({first_line(error)}); download it again, "
            "or set model.path to another"
        ) from error


def class_of(name: str, index: Mapping[str, Any], part: str, setting: str = "model.path") -> Any:
    """The class of a part.

    Raises:
        ModelError: it is not one of the libraries'.
    """
    library, class_name = index[part]
    found = getattr(import_module(library), str(class_name), None) if library in LIBRARIES else None
    if not isinstance(found, type):
        raise ModelError(
            f"the class of the {part} of the model {name!r} is {class_name} of {library}; expected a class of "
            f"{' or '.join(LIBRARIES)}: set {setting} to another"
        )
    return found


def parts(index: Mapping[str, Any]) -> list[str]:
    """The parts of a pipeline that are loaded."""
    listed = {name: value for name, value in index.items() if name not in UNUSED and not name.startswith("_")}
    return [name for name, value in listed.items() if isinstance(value, list) and len(value) == 2 and all(value)]


def _files_of(part: str, files: Collection[str]) -> list[str]:
    """The names of the files in a part's folder."""
    return [file.removeprefix(f"{part}/") for file in files if file.startswith(f"{part}/")]
