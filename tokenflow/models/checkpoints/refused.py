"""Models that are refused by name, before anything of them is downloaded, and what can be done instead."""

import re

from tokenflow.errors import ModelError

CLOSED = re.compile(r"flux[-_. ]?([12](\.[12])?)?[-_. ]?(pro|max|flex|ultra)\b", re.IGNORECASE)
"""Models of Black Forest Labs that are an API only."""

OWNERS = ("", "black-forest-labs", "bfl")
"""Under which they are asked for."""

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
    """Refuse a Hub id that names a model that is not supported, or not to be had.

    Raises:
        ModelError: it does.
    """
    if CLOSED.search(name) and name.rpartition("/")[0].lower() in OWNERS:
        raise ModelError(
            f"the model {name!r} is an API only, whose weights are not published; edit some frames with it and carry "
            "them through the clip with edit.mode=keyframes (docs/keyframes.md), or set model.path to flux.1-dev or "
            "flux.2-klein-4b"
        )
    reason = why_refused(name)
    if reason is not None:
        raise ModelError(
            f"the model {name!r} is not supported ({reason}); set model.path to one that `tokenflow models` lists, or "
            "edit frames with it and carry them with edit.mode=keyframes (docs/keyframes.md)"
        )
