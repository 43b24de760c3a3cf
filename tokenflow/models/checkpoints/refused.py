"""Models that are refused by name, before anything of them is downloaded, and what can be done instead."""

import re
from pathlib import Path

from tokenflow.errors import ModelError
from tokenflow.models.checkpoints.weights import PICKLES

CLOSED = re.compile(r"flux[-_. ]?([12](\.[12])?)?[-_. ]?(pro|max|flex|ultra)\b", re.IGNORECASE)
"""Models of Black Forest Labs that are available only through an API."""

OWNERS = ("", "black-forest-labs", "bfl", "stabilityai", "wan-ai")
"""Whose models are told by their names; those of others may be called anything, and model_index.json tells them."""

GGUF = ".gguf"
"""Suffix of files that only model.path takes."""

OTHERS = {
    r"\bfill\b|fluxfill": "it fills in what a mask leaves out",
    r"redux|fluxprior": "it makes variations of an image, without an instruction",
    r"flux.*(canny|depth)-dev|flux_?control_?(img2img|inpaint)?pipeline": "it takes edges or a depth map in place of a "
    "ControlNet",
    r"flux[-_.]?3": "its generation is newer",
    r"flux[-_.]?2[-_.]?dev|flux2pipeline": "its text encoder is not FLUX.2 [klein]'s",
    r"stable[-_]?diffusion[-_]?3|\bsd3\b|stablediffusion3": "its transformer is of another kind",
    r"\bwan\d|^wan\w*pipeline": "it makes videos, not images",
}
"""By what is in its name or in that of its pipeline: why a model is not supported."""


def why_refused(name: str) -> str | None:
    """Why a model of this name, or of this class of pipeline, is not supported; None if it may be."""
    found = (reason for pattern, reason in OTHERS.items() if re.search(pattern, name, re.IGNORECASE))
    return next(found, None)


def refuse_by_name(name: str) -> None:
    """Refuse a Hub id of a known owner that names a model that is not supported, or was not published.

    Raises:
        ModelError: it does.
    """
    owner, _, repository = name.rpartition("/")
    if owner.lower() not in OWNERS:
        return
    if CLOSED.search(repository):
        raise ModelError(
            f"the model {name!r} is available only through an API; edit some frames with it and carry them through "
            "the clip with edit.mode=keyframes (docs/keyframes.md), or set model.path to flux.1-dev or flux.2-klein-4b"
        )
    reason = why_refused(repository)
    if reason is not None:
        raise ModelError(
            f"the model {name!r} is not supported ({reason}); set model.path to one that `tokenflow models` lists, or "
            "edit frames with it and carry them with edit.mode=keyframes (docs/keyframes.md)"
        )


def refuse_other_files(name: str, setting: str) -> None:
    """Refuse files in formats other than safetensors, which are never opened, and web addresses.

    Args:
        name: what should be a folder or Hub id.
        setting: names it, for errors.

    Raises:
        ModelError: it is the name of such a file, or a web address.
    """
    if name.lower().endswith(PICKLES):
        raise ModelError(
            f"{setting} is {name!r}, a pickle, which can run any code when it is opened; expected .safetensors or a "
            "diffusers folder: convert it, or download the safetensors version"
        )
    if "://" in name:
        raise ModelError(
            f"{setting} is {name!r}, a web address; expected a path or a Hub id, such as owner/name: download the file "
            f"and set {setting} to it"
        )
    if Path(name).is_file() or name.lower().endswith(GGUF):
        raise ModelError(
            f"{setting} is {name!r}, which is not a .safetensors file; set it to one, to a folder in diffusers' "
            "layout, or to a Hub id"
        )
