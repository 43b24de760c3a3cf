"""The family and the diffusers pipeline of a model: of a folder, of a `.safetensors` file, of a Hub id."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from huggingface_hub.errors import RemoteEntryNotFoundError

from tokenflow.errors import ModelError, ModelNotFoundError, looked_in
from tokenflow.models.checkpoints import hub
from tokenflow.models.checkpoints.file_kinds import check_checkpoint, read_header
from tokenflow.models.checkpoints.folder import (
    INDEX,
    check_settings,
    choose_variants,
    open_folder,
    read_index,
    setting_files,
    weight_files,
)
from tokenflow.models.checkpoints.gguf_file import is_gguf, read_gguf_header, refuse_gguf
from tokenflow.models.checkpoints.prediction import says, scheduler_changes
from tokenflow.models.checkpoints.reasons import UNREACHABLE, hub_reason
from tokenflow.models.checkpoints.refused import refuse_by_name
from tokenflow.models.checkpoints.single_file import default_base, load_networks, version_of
from tokenflow.models.checkpoints.stable_diffusion_settings import configured_prediction
from tokenflow.models.checkpoints.transformer_file import class_of_transformer, load_transformer, transformer_family
from tokenflow.models.checkpoints.vae import load_vae
from tokenflow.models.checkpoints.weights import PICKLES
from tokenflow.models.families import STABLE_DIFFUSION, STABLE_DIFFUSION_XL, Family, family_of
from tokenflow.models.placement import Precision
from tokenflow.models.presets import full_name, similar_names

PLACES = "set model.path to a folder in diffusers' layout, a .safetensors file, or the id of a model on the Hub"


def find_folder(name: str, revision: str | None) -> tuple[Path, str | None]:
    """The folder that has a model's model_index.json, and the commit if it was downloaded from the Hub."""
    if Path(name).is_dir():
        return Path(name), None
    _refuse_other_files(name)
    identifier, _, wanted = name.partition("@")
    if wanted and hub.is_hub_id(identifier):
        raise ModelNotFoundError(
            f"there is no folder {name!r}{looked_in(name)}; for the revision {wanted!r} of {identifier!r}, set "
            "model.revision"
        )
    if not hub.is_hub_id(name):
        raise ModelNotFoundError(f"there is no folder {name!r}{looked_in(name)}{_meant(name)}; {PLACES}")
    refuse_by_name(name)
    try:
        folder = hub.download_file(name, INDEX, revision).parent
    except RemoteEntryNotFoundError as error:
        raise ModelNotFoundError(
            f"the repository {name!r} on the Hub has no {INDEX}, so it is not a model in diffusers' layout; download "
            "one of its files and set model.path to it, or set model.path to another"
        ) from error
    except (OSError, *UNREACHABLE) as error:
        raise ModelNotFoundError(
            f"there is no model {name!r}: there is no such folder{looked_in(name)}, and {hub_reason(error)}"
            f"{_meant(name)}; {PLACES}"
        ) from error
    return folder, folder.name


def _meant(name: str) -> str:
    """Short names that were probably meant, as part of a sentence; empty if there are none."""
    names = similar_names(name)
    return f"; perhaps {' or '.join(names)} was meant" if names else ""


def _refuse_other_files(name: str) -> None:
    """Refuse files in formats other than safetensors, which are never opened.

    Raises:
        ModelError: the name is that of such a file.
    """
    if name.lower().endswith(PICKLES):
        raise ModelError(
            f"the model {name!r} is a pickle, which can run any code when it is opened; "
            "expected .safetensors or a diffusers folder: convert it, or download the safetensors version"
        )
    if Path(name).is_file():
        raise ModelError(f"the model {name!r} is a file of another kind than .safetensors; {PLACES}")


def open_model_folder(
    name: str,
    folder: Path,
    commit: str | None,
    variant: str | None,
    vae: str | None,
    prediction_type: str | None,
    precision: Precision,
    replacements: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Family, Any]:
    """The family and pipeline of a folder; what it lacks of the files on the Hub at a commit is downloaded first.

    `replacements` are networks by part, which are used in place of the folder's own.
    """
    index = read_index(name, folder)
    family = family_of(name, index.get("_class_name"))
    _check_index(name, index, family, vae)
    dtypes = family.dtypes(precision)
    loaded = {part: dtypes[part] for part in dtypes if part not in replacements and (part != "vae" or vae is None)}
    files, unreachable = (hub.files_below(folder), None) if commit is None else hub.list_files(name, folder)
    try:
        check_settings(name, files, index, family.networks)
        variants = choose_variants(name, files, loaded, variant)
    except ModelError as error:
        if unreachable is None:
            raise
        raise ModelNotFoundError(f"the model {name!r} cannot be had: {hub.PARTLY}, and {unreachable}") from error
    if commit is not None:
        hub.download_files(name, folder, setting_files(files, index))
    family.check(name, folder, prediction_type)
    if commit is not None:
        hub.download_files(name, folder, weight_files(files, variants))
    own = {} if vae is None else {"vae": load_vae(vae, folder, dtypes["vae"])}
    pipeline = open_folder(name, folder, family.pipeline, variants, loaded, {**replacements, **own})
    if prediction_type is not None:
        _overrule(pipeline.scheduler, prediction_type)
    return family, pipeline


def _overrule(scheduler: Any, prediction_type: str) -> None:
    if "prediction_type" not in scheduler.config:
        raise ModelError(
            f"the model's scheduler is a {type(scheduler).__name__}, which knows one prediction type only; set "
            "model.prediction_type to null"
        )
    scheduler.register_to_config(prediction_type=prediction_type)


def _check_index(name: str, index: Mapping[str, Any], family: Family, vae: str | None) -> None:
    """Refuse a model one of whose networks is left out, which its model_index.json says.

    Raises:
        ModelError: a network is left out that nothing replaces.
    """
    for part in family.networks:
        if (index.get(part) or [None])[0] is None and not (part == "vae" and vae is not None):
            if family is STABLE_DIFFUSION_XL and part == "text_encoder":
                raise ModelError(
                    f"the model {name!r} is an SDXL refiner, which only finishes images of the base model; set "
                    "model.path to the base model"
                )
            remedy = "set model.vae to one" if part == "vae" else "set model.path to another"
            raise ModelError(f"the model {name!r} has no {part}; {remedy}")


def open_file(
    path: str, base: str | None, vae: str | None, prediction_type: str | None, precision: Precision
) -> tuple[Family, Any]:
    """The family and pipeline of a checkpoint in one file, with the configuration of the model it descends from."""
    header = read_gguf_header(path) if is_gguf(path) else read_header(path, "model.path")
    dtype = precision.dtype
    kind = transformer_family(header)
    if kind is not None:
        return _open_transformer(path, kind, base, vae, prediction_type, precision)
    if is_gguf(path):
        refuse_gguf(path, header)
    check_checkpoint(path, header, has_vae=vae is not None)
    version = version_of(header)
    family = STABLE_DIFFUSION_XL if version == "XL" else STABLE_DIFFUSION
    said = prediction_type or says(path, header)
    name = default_base(version, said) if base is None else hub.current_name(base, "model.base")
    folder = _base_folder(path, name)
    index = read_index(name, folder)
    if family_of(name, index.get("_class_name")) is not family:
        raise ModelError(
            f"the model file {path!r} is a Stable Diffusion {version}, and model.base {name!r} a "
            f"{index['_class_name']}; set model.base to the model that the file descends from"
        )
    family.check(name, folder, prediction_type)
    classes = {part: index[part][1] for part in family.networks if part != "vae" or vae is None}
    changes = scheduler_changes(path, header, configured_prediction(folder), prediction_type)
    networks = load_networks(path, header, name, folder, classes, dtype)
    if vae is not None:
        networks["vae"] = load_vae(vae, folder, dtype)
    pipeline = open_folder(name, folder, family.pipeline, {}, {}, networks)
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
    base = full_name(base)
    folder = _base_folder(path, base)
    index = read_index(base, folder)
    class_name = index.get("_class_name")
    family = family_of(base, class_name)
    if (index.get("transformer") or [None, None])[1] != class_of_transformer(kind):
        raise ModelError(
            f"the model file {path!r} is a transformer of {kind}, and model.base {base!r} a {class_name}; set "
            f"model.base to the {kind} that the file descends from"
        )
    family.check(base, folder, prediction_type)
    commit = None if Path(base).is_dir() else folder.name
    transformer = load_transformer(path, kind, base, folder, family.dtypes(precision)["transformer"])
    return open_model_folder(base, folder, commit, None, vae, None, precision, {"transformer": transformer})


def _base_folder(path: str, base: str) -> Path:
    """The folder with the configuration of the model that a file descends from, downloaded if need be."""
    if Path(base).is_dir():
        return Path(base)
    if not hub.is_hub_id(base):
        raise ModelNotFoundError(
            f"there is no folder {base!r}{looked_in(base)}; set model.base to a folder or Hub id of the model that the "
            "file descends from"
        )
    try:
        folder = hub.download_file(base, INDEX).parent
    except (OSError, *UNREACHABLE) as error:
        raise ModelNotFoundError(
            f"the model file {path!r} needs the configuration of {base!r}, and {hub_reason(error)}; set model.base to "
            "a folder of the model that the file descends from"
        ) from error
    files, _ = hub.list_files(base, folder)
    hub.download_files(base, folder, setting_files(files, read_index(base, folder)))
    return folder
