"""From what a client asks for to a configuration. Settings that name files or use up memory are the operator's."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import BaseModel

from tokenflow.apps.server.problems import Problem
from tokenflow.apps.server.settings import Variant
from tokenflow.config import PRESETS, Clip, Config, Edit, resolve
from tokenflow.config.files import named_files
from tokenflow.config.interpolation import escape_references
from tokenflow.errors import ConfigError

OF_EDIT = (
    "negative_prompt",
    "steps",
    "guidance_scale",
    "guidance",
    "propagate_edit_until",
    "variation",
    "propagation",
    "correspondence",
    "keyframe_interval",
    "extended_attention",
    "regions",
    "pnp",
    "sdedit",
    "controlnet",
    "keyframes",
    "references",
)
"""Settings of `edit` that a client may give."""

OF_REFERENCE = ("kind", "weight")
"""Settings of a reference that a client may give: a section per upload, in `edit.references`."""

OF_PAGE = ("prompt", "mode", "seed", "regions", "keyframes", "references")
"""Settings of `edit` that the page fixes: some name its uploads."""

OF_CLIP = ("start", "frames", "every")
"""Settings of `clip` that a client may give."""


@dataclass(frozen=True)
class Asked:
    """What a client asks for, with the uploads in place.

    Attributes:
        prompt: what the edit should show.
        source_prompt: what the clip shows.
        preset, mode, size, seed, seconds: None for the variant's own.
        settings: as the client gave them; see `OF_EDIT` and `OF_CLIP`.
        clip: the file.
        mask: the file of a mask; None for none.
        keyframes: files of edited frames, by frame number.
        references: files of images whose look the edit takes.
    """

    prompt: str
    source_prompt: str
    preset: str | None
    mode: str | None
    size: tuple[int, int] | int | None
    seed: int | None
    seconds: float | None
    settings: dict[str, Any]
    clip: Path
    mask: Path | None
    keyframes: dict[int, Path]
    references: tuple[Path, ...] = ()


def read_client_settings(text: str | None) -> dict[str, Any]:
    """Settings in JSON, such as `{"edit": {"steps": 12}, "clip": {"frames": 24}}`.

    Raises:
        Problem: they are not JSON, or have settings that a client may not give.
    """
    if not text:
        return {}
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        raise Problem(422, 'settings: expected JSON such as {"edit": {"steps": 12}}', "settings") from None
    if not all(map(_can_be_stored, _leaves(settings))):
        raise Problem(422, "settings: expected text in Unicode without NUL, and finite numbers", "settings")
    if not isinstance(settings, dict) or not all(isinstance(each, dict) for each in settings.values()):
        raise Problem(422, 'settings: expected sections, such as {"edit": {"steps": 12}}', "settings")
    _check_allowed(settings)
    return settings


def check_preset(preset: str | None, variant: Variant) -> None:
    """Check that a client asks for a variant's own preset: its price is that of its steps.

    Raises:
        Problem: it is another.
    """
    if preset is not None and preset != variant.preset:
        raise Problem(422, f"preset: expected {variant.preset}, which this model has, got {preset!r}", "preset")


def configuration(asked: Asked, variant: Variant, inversions: Path, result: Path) -> Config:
    """The configuration of an edit.

    Raises:
        Problem: a setting is wrong, or more than the variant allows.
    """
    check_preset(asked.preset, variant)
    edit: dict[str, Any] = {"prompt": asked.prompt}
    clip: dict[str, Any] = {"path": str(asked.clip), "prompt": asked.source_prompt}
    if asked.mode is not None:
        edit["mode"] = asked.mode
    if asked.seed is not None:
        edit["seed"] = asked.seed
    if asked.size is not None:
        clip["size"] = list(asked.size) if isinstance(asked.size, tuple) else asked.size
    if asked.mask is not None:
        edit["regions"] = [{"mask": str(asked.mask)}]
    if asked.keyframes:
        edit["keyframes"] = {"frames": {number: str(path) for number, path in asked.keyframes.items()}}
    settings, sections = _without_references(asked.settings)
    if asked.references or sections is not None:
        edit["references"] = _references(asked.references, sections)
    fixed = {
        "preset": variant.preset,
        "clip": clip,
        "edit": edit,
        "model": variant.model.model_dump(mode="json"),
        "output": {"dir": str(result)},
        "trajectories": {"dir": str(inversions)},
    }
    config = _merged(fixed, variant, settings)
    _refuse_files(config, _merged(fixed, variant, {}) if asked.settings else config)
    check_against_limits(config, variant)
    return config


def of_page(config: Config, variant: Variant, inversions: Path, result: Path) -> Config:
    """The configuration of an edit that is asked for on the page: what its form sets, over the variant's settings.

    Args:
        config: of the form, which has read what it names from the page's uploads.
        variant: that was chosen.
        inversions, result: folders.

    Raises:
        Problem: a setting is not a client's, is wrong, or more than the variant allows.
    """
    check_preset(config.preset if "preset" in _set_by(Config, config) else None, variant)
    clip, edit = _set_by(Clip, config.clip), _set_by(Edit, config.edit)
    edit = {name: value for name, value in edit.items() if value != PRESETS[config.preset]["edit"].get(name)}
    fixed = {
        "preset": variant.preset,
        "clip": {name: clip.pop(name) for name in ("path", "prompt", "size") if name in clip},
        "edit": {name: edit.pop(name) for name in OF_PAGE if name in edit},
        "model": variant.model.model_dump(mode="json"),
        "output": {"dir": str(result)},
        "trajectories": {"dir": str(inversions)},
    }
    _check_allowed({"clip": clip, "edit": edit})
    made = _merged(fixed, variant, {"clip": clip, "edit": edit})
    _refuse_files(made, _merged(fixed, variant, {}))
    check_against_limits(made, variant)
    return made


def _set_by(section: type[BaseModel], settings: BaseModel) -> dict[str, Any]:
    """The settings of a section that depart from their defaults, nested ones alike."""
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            if inner := _set_by(type(value), value):
                found[name] = inner
        elif field.is_required() or value != field.default:
            found[name] = settings.model_dump(mode="json", include={name})[name]
    return found


def reprompted(config: Config, prompt: str, seed: int | None, result: Path) -> Config:
    """The configuration of a remix: the same clip and inversion, another sentence."""
    changes: dict[str, Any] = {"prompt": prompt} | ({} if seed is None else {"seed": seed})
    edit = config.edit.model_copy(update=changes)
    output = config.output.model_copy(update={"dir": result})
    return config.model_copy(update={"edit": edit, "output": output})


def _check_allowed(settings: dict[str, dict[str, Any]]) -> None:
    allowed = {"edit": OF_EDIT, "clip": OF_CLIP}
    if unknown := sorted(set(settings) - set(allowed)):
        raise Problem(422, f"settings: {unknown[0][:60]} cannot be set by clients; allowed: edit, clip", "settings")
    for section, values in settings.items():
        for name in values:
            if name not in allowed.get(section, ()):
                offered = [f"{each}.{key}" for each, keys in allowed.items() for key in keys]
                shown = f"{section}.{name}"[:100]
                message = f"settings: {shown} cannot be set by clients; allowed: {', '.join(offered)}"
                raise Problem(422, message, "settings")


def _without_references(settings: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], Any]:
    """A client's settings without `edit.references`, and that."""
    edit = dict(settings.get("edit", {}))
    sections = edit.pop("references", None)
    return {**settings, "edit": edit}, sections


def _references(paths: Sequence[Path], sections: Any) -> list[dict[str, Any]]:
    """The references of an edit: uploads, with the sections that a client may give, one for each, in their order.

    Raises:
        Problem: they are something else, or not as many.
    """
    sections = [{}] * len(paths) if sections is None else sections
    if not isinstance(sections, list) or not all(isinstance(each, dict) for each in sections):
        expected = 'settings: edit.references: expected sections such as [{"kind": "style", "weight": 0.5}]'
        raise Problem(422, f"{expected}, one per image in references[]", "settings")
    if len(sections) != len(paths):
        expected = f"settings: edit.references: expected as many sections as images in references[], {len(paths)}"
        raise Problem(422, f"{expected}; got {len(sections)}", "settings")
    for number, section in enumerate(sections):
        if unknown := sorted(set(section) - set(OF_REFERENCE)):
            shown = f"edit.references.{number}.{unknown[0]}"[:100]
            raise Problem(
                422, f"settings: {shown} cannot be set by clients; allowed: {', '.join(OF_REFERENCE)}", "settings"
            )
    return [{"path": str(path), **section} for path, section in zip(paths, sections, strict=True)]


def _leaves(value: Any) -> Iterator[Any]:
    """The texts and numbers of parsed JSON, names included."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def _can_be_stored(value: Any) -> bool:
    """Whether every database holds a value."""
    if isinstance(value, str):
        return not re.search("[\0\ud800-\udfff]", value)
    return not isinstance(value, float) or math.isfinite(value)


def _merged(fixed: dict[str, Any], variant: Variant, settings: dict[str, Any]) -> Config:
    """The configuration of a variant with a client's settings, and over them what is fixed. All is taken literally."""
    layers = [PRESETS[fixed["preset"]], variant.settings, settings, fixed]
    try:
        merged = OmegaConf.merge(*(OmegaConf.create(escape_references(layer)) for layer in layers))
        return resolve(merged, environment={}, name="settings")  # type: ignore[arg-type]
    except ConfigError as error:
        raise Problem(422, str(error), "settings") from error
    except Exception as error:  # OmegaConf has many for content that is none of its own
        raise Problem(422, f"settings: {' '.join(str(error).split())[:300]}", "settings") from error


def _refuse_files(config: Config, own: Config) -> None:
    """Check that a client's settings have added no file or model to those of the variant and the uploads."""
    allowed = named_files(own)
    for key, name in named_files(config).items():
        if allowed.get(key) != name:
            message = f"settings: {key} cannot be set by clients, as it names a file or model; leave it out"
            raise Problem(422, message, "settings")


def check_against_limits(config: Config, variant: Variant) -> None:
    """Check what costs most; sizes and frames are checked where the clip is read.

    Raises:
        Problem: it is more than the variant allows.
    """
    if config.edit.mode not in variant.modes:
        raise Problem(422, f"mode: expected one of {', '.join(variant.modes)}, got {config.edit.mode!r}", "mode")
    if config.edit.steps > variant.limits.steps:
        raise Problem(
            422, f"settings: edit.steps: expected at most {variant.limits.steps}, got {config.edit.steps}", "settings"
        )
    if config.edit.mode == "keyframes" and not config.edit.keyframes.paths:
        raise Problem(
            422, "keyframes[]: expected edited frames, such as frame_0.png, for mode keyframes", "keyframes[]"
        )
