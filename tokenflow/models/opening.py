"""The family and the diffusers pipeline of a model: of a folder, of a `.safetensors` file, of a Hub id."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from huggingface_hub.errors import RemoteEntryNotFoundError, RevisionNotFoundError

from tokenflow.errors import ModelError, ModelNotFoundError, looked_in
from tokenflow.models.checkpoints import hub
from tokenflow.models.checkpoints.file_kinds import check_checkpoint, read_header, refuse_shard
from tokenflow.models.checkpoints.folder import (
    INDEX,
    check_settings,
    choose_variants,
    class_of,
    open_folder,
    parts,
    read_index,
    setting_files,
    weight_files,
)
from tokenflow.models.checkpoints.gguf_file import is_gguf, read_gguf_header, refuse_gguf
from tokenflow.models.checkpoints.prediction import says, scheduler_changes
from tokenflow.models.checkpoints.reasons import UNREACHABLE, hub_reason
from tokenflow.models.checkpoints.refused import refuse_by_name, refuse_other_files
from tokenflow.models.checkpoints.single_file import default_base, load_networks, version_of
from tokenflow.models.checkpoints.stable_diffusion_settings import configured_prediction
from tokenflow.models.checkpoints.transformer_file import class_of_transformer, load_transformer, transformer_family
from tokenflow.models.checkpoints.vae import load_vae
from tokenflow.models.families import STABLE_DIFFUSION, STABLE_DIFFUSION_XL, Family, family_of
from tokenflow.models.placement import Precision
from tokenflow.models.presets import similar_names

PLACES = "set model.path to a folder in diffusers' layout, a .safetensors file, or the id of a model on the Hub"


def find_folder(name: str, revision: str | None) -> tuple[Path, str | None]:
    """The folder that has a model's model_index.json, and the commit if it was downloaded from the Hub."""
    if Path(name).is_dir():
        return Path(name), None
    refuse_other_files(name, "model.path")
    identifier, _, wanted = name.partition("@")
    if wanted and hub.is_hub_id(identifier):
        raise ModelNotFoundError(
            f"the folder {name!r} was not found{looked_in(name)}; for the revision {wanted!r} of {identifier!r}, set "
            "model.revision"
        )
    if not hub.is_hub_id(name):
        raise ModelNotFoundError(f"the folder {name!r} was not found{looked_in(name)}{_meant(name)}; {PLACES}")
    refuse_by_name(name)
    try:
        folder = hub.download_file(name, INDEX, revision).parent
    except RemoteEntryNotFoundError as error:
        raise ModelNotFoundError(
            f"the repository {name!r} on the Hub has no {INDEX}, so it is not a model in diffusers' layout; download "
            "one of its files and set model.path to it, or set model.path to another"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotFoundError(f"the model {name!r} has no revision {revision!r}; set model.revision") from error
    except (OSError, *UNREACHABLE) as error:
        raise ModelNotFoundError(
            f"the model {name!r} was not found: there is no such folder{looked_in(name)}, and {hub_reason(error)}"
            f"{_meant(name)}; {PLACES}"
        ) from error
    return folder, folder.name


def _meant(name: str) -> str:
    """Short names that were probably meant, as part of a sentence; empty if there are none."""
    names = similar_names(name)
    return f"; perhaps {' or '.join(names)} was meant" if names else ""


def open_model_folder(
    name: str,
    folder: Path,
    commit: str | None,
    variant: str | None,
    vae: str | None,
    prediction_type: str | None,
    precision: Precision,
    replacements: Mapping[str, Callable[[], Any]] = MappingProxyType({}),
) -> tuple[Family, Any]:
    """The family and pipeline of a folder; what it lacks of the files on the Hub at a commit is downloaded first.

    `replacements` load networks by part, which are used in place of the folder's own.
    """
    index = read_index(name, folder)
    family = family_of(name, index.get("_class_name"))
    _check_index(name, "model.path", index, family, vae)
    dtypes = family.dtypes(precision)
    loaded = {part: dtypes[part] for part in dtypes if part not in replacements and (part != "vae" or vae is None)}
    files, unreachable = _files_of(name, folder, commit)
    with _said_partly(name, unreachable):
        variants = choose_variants(name, files, loaded, variant)
        check_settings(name, files, index, _own_networks(family, vae))
    if commit is not None:
        hub.download_files(name, folder, setting_files(files, index))
    family.check(name, folder, prediction_type)
    networks = {} if vae is None else {"vae": load_vae(vae, folder, dtypes["vae"])}
    networks |= {part: load() for part, load in replacements.items()}
    if commit is not None:
        hub.download_files(name, folder, weight_files(files, variants))
    pipeline = open_folder(name, folder, family.pipeline, variants, loaded, networks)
    if prediction_type is not None:
        _override(pipeline.scheduler, prediction_type)
    return family, pipeline


def _files_of(name: str, folder: Path, commit: str | None) -> tuple[list[str], str | None]:
    """The files of a model, of a Hub id at a commit; and if the Hub cannot be asked, why: then they are the cached."""
    return (hub.files_below(folder), None) if commit is None else hub.list_files(name, folder)


@contextmanager
def _said_partly(name: str, unreachable: str | None) -> Iterator[None]:
    """Turn what is said to be missing into what it is where the Hub cannot be asked: not in the local cache."""
    try:
        yield
    except ModelError as error:
        if unreachable is None:
            raise
        raise ModelNotFoundError(f"the model {name!r} is not available: {hub.PARTLY}, and {unreachable}") from error


def _own_networks(family: Family, vae: str | None) -> list[str]:
    """The networks of a family that do not come from elsewhere."""
    return [part for part in family.networks if part != "vae" or vae is None]


def _override(scheduler: Any, prediction_type: str) -> None:
    if "prediction_type" not in scheduler.config:
        raise ModelError(
            f"the model's scheduler, {type(scheduler).__name__}, has only one prediction type; set "
            "model.prediction_type to null"
        )
    scheduler.register_to_config(prediction_type=prediction_type)


def _check_index(name: str, setting: str, index: Mapping[str, Any], family: Family, vae: str | None) -> None:
    """Refuse a model that lacks a network, or has one or a scheduler of an unknown class, as its model_index.json says.

    Raises:
        ModelError: there is such a part, which nothing replaces.
    """
    for part in (*_own_networks(family, vae), "scheduler"):
        if part in parts(index):
            class_of(name, index, part, setting)
        elif family is STABLE_DIFFUSION_XL and part == "text_encoder":
            raise ModelError(
                f"the model {name!r} is an SDXL refiner, which only finishes images of the base model; set {setting} "
                "to the base model"
            )
        else:
            remedy = "set model.vae to one" if part == "vae" else f"set {setting} to another"
            raise ModelError(f"the model {name!r} has no {part}; {remedy}")


def open_file(
    path: str, base: str | None, vae: str | None, prediction_type: str | None, precision: Precision
) -> tuple[Family, Any]:
    """The family and pipeline of a checkpoint in one file, with the configuration of the model it descends from."""
    refuse_shard(path)
    header = read_gguf_header(path) if is_gguf(path) else read_header(path, "model.path")
    base = None if base is None else hub.current_name(base, "model.base")
    kind = transformer_family(header)
    if kind is not None:
        return _open_transformer(path, kind, base, vae, prediction_type, precision)
    if is_gguf(path):
        refuse_gguf(path, header)
    check_checkpoint(path, header, has_vae=vae is not None)
    version = version_of(header)
    said = prediction_type or says(path, header)
    name = base or default_base(version, said)
    folder, index, family = _open_base(path, name, vae)
    if family is not (STABLE_DIFFUSION_XL if version == "XL" else STABLE_DIFFUSION):
        raise ModelError(
            f"the model file {path!r} is Stable Diffusion {version}, but the class of model.base {name!r} is "
            f"{index['_class_name']}; set model.base to the model that the file descends from"
        )
    family.check(name, folder, prediction_type)
    classes = {part: index[part][1] for part in _own_networks(family, vae)}
    changes = scheduler_changes(path, header, configured_prediction(folder), prediction_type)
    replaced = {} if vae is None else {"vae": load_vae(vae, folder, precision.dtype)}
    networks = load_networks(path, header, name, folder, classes, precision.dtype)
    pipeline = open_folder(name, folder, family.pipeline, {}, {}, {**networks, **replaced})
    pipeline.scheduler.register_to_config(**changes)
    return family, pipeline


def _open_transformer(
    path: str, kind: str, base: str | None, vae: str | None, prediction_type: str | None, precision: Precision
) -> tuple[Family, Any]:
    """A transformer in a file, with everything else of the model it descends from."""
    if base is None:
        raise ModelError(
            f"the model file {path!r} is a transformer of {kind}, without text encoder and VAE; set model.base to the "
            f"folder or Hub id of the {kind} that it descends from"
        )
    folder, index, family = _open_base(path, base, vae)
    if (index.get("transformer") or [None, None])[1] != class_of_transformer(kind):
        raise ModelError(
            f"the model file {path!r} is a transformer of {kind}, but the class of model.base {base!r} is "
            f"{index['_class_name']}; set model.base to the {kind} that the file descends from"
        )
    family.check(base, folder, prediction_type)
    commit = None if Path(base).is_dir() else folder.name
    dtype = family.dtypes(precision)["transformer"]
    load = partial(load_transformer, path, kind, base, folder, dtype)
    return open_model_folder(base, folder, commit, None, vae, None, precision, {"transformer": load})


def _open_base(path: str, base: str, vae: str | None) -> tuple[Path, Mapping[str, Any], Family]:
    """The folder, model_index.json and family of the model that a file descends from.

    Of a Hub id, its configurations and vocabularies are downloaded.
    """
    folder, commit = _find_base(path, base)
    index = read_index(base, folder, "model.base")
    family = family_of(base, index.get("_class_name"), "model.base")
    _check_index(base, "model.base", index, family, vae)
    files, unreachable = _files_of(base, folder, commit)
    with _said_partly(base, unreachable):
        check_settings(base, files, index, _own_networks(family, vae))
    if commit is not None:
        hub.download_files(base, folder, setting_files(files, index))
    return folder, index, family


def _find_base(path: str, base: str) -> tuple[Path, str | None]:
    """The folder with a base's model_index.json, and the commit if it was downloaded from the Hub."""
    if Path(base).is_dir():
        return Path(base), None
    if not hub.is_hub_id(base):
        found = f"model.base is the file {base!r}" if Path(base).is_file() else f"the folder {base!r} was not found"
        raise ModelNotFoundError(
            f"{found}{looked_in(base)}; set model.base to a folder or Hub id of the model that the file descends from"
        )
    try:
        folder = hub.download_file(base, INDEX).parent
    except (OSError, *UNREACHABLE) as error:
        raise ModelNotFoundError(
            f"the model file {path!r} needs the configuration of {base!r}, and {hub_reason(error)}; set model.base to "
            "a folder of the model that the file descends from"
        ) from error
    return folder, folder.name
