"""The form of the page and a configuration: from one to the other, and to the command that does the same."""

import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from tokenflow.apps.one_line import BUNDLED_MODEL, output_folder
from tokenflow.apps.web.region_fields import PARTS, REGIONS, beside_field, check_words, to_fields, to_setting
from tokenflow.apps.web.space import Space
from tokenflow.config import PRESETS, Clip, Config, Edit, resolve
from tokenflow.config.files import named_files
from tokenflow.config.interpolation import escape_references, unescape_references
from tokenflow.config.reference import all_settings
from tokenflow.config.suggestions import annotation, is_section
from tokenflow.errors import ConfigError

CHOSEN_BY_THE_PAGE = ("clip.path", "output.dir", "trajectories.dir")
"""Settings without a field: the clip is uploaded or an example, and the folders are those of the space."""

PATHS = (
    "clip.sound",
    "model.base",
    "model.vae",
    "edit.controlnet.path",
    "edit.ip_adapter",
    "metrics.clip",
    "metrics.classifier",
    "metrics.mask",
)
"""Settings that read from places the page does not choose."""

PART = ("clip.start", "clip.frames", "clip.every", "clip.size")
"""Settings that choose a part of the clip, and its size."""

WHICH_FRAMES = ("clip.start", "clip.frames", "clip.every", "clip.rate")
"""Settings that choose the frames of a clip, and so give them their numbers."""

SHARED = ("preset", "clip.prompt", *PART, "model.path")
"""Settings that have a field where the page is shared with others, beside those of `edit`."""

EDITED_FRAMES, REFERENCES = "edit.keyframes.frames", "edit.references"
"""The settings that name frames which were edited elsewhere, and references. Where the page is shared they have to be
uploaded."""

CHECKED_WHERE_READ = tuple(f"{key}." for key in (*CHOSEN_BY_THE_PAGE, "model.path", EDITED_FRAMES, REFERENCES, REGIONS))
"""Beginnings of the keys of files and models that a shared page may name, if they are its own; see `Site`."""

UNSET = {"clip.path": "none", "clip.prompt": "", "edit.prompt": "", "output.dir": "none", "model.path": "none"}
"""What a configuration has to have, where it does not matter."""

NO_CLIP = "choose a clip: upload one, or take an example"

NAME = "the page"
"""What errors call the form."""

Values = Mapping[str, str]
"""Text of each field by the key of its setting; empty for the default."""


def keys(space: Space) -> list[str]:
    """The settings that have a field, in the order of a file, and the parts of the region."""
    found = [setting.key for setting in all_settings(Config) if setting.key not in CHOSEN_BY_THE_PAGE]
    if not space.is_local:
        found = [key for key in found if key in SHARED or (_is_offered(key, space) and key not in PATHS)]
    return [*found, *PARTS]


def _is_offered(key: str, space: Space) -> bool:
    section, _, name = key.partition(".")
    return section == "edit" and (not space.edit_settings or name.partition(".")[0] in space.edit_settings)


def to_config(values: Values, clip: str, space: Space, taken: Collection[Path] = ()) -> Config:
    """The configuration that a form describes.

    Args:
        values: of the fields.
        clip: the file of the clip; empty if none was chosen.
        space: of the page.
        taken: result folders that jobs will write to.

    Raises:
        ConfigError: with all mistakes, in the words of the command line.
    """
    mistakes = [f"{key}: {text}" for key, text in _missing(values, clip).items()]
    mistakes += _hidden(values, space)
    settings, wrong = _parsed(values)
    mistakes += wrong
    if mistakes:
        raise ConfigError("; ".join(mistakes), mistakes)
    settings = (
        {"edit.prompt": ""}
        | settings
        | {
            "clip.path": clip,
            "output.dir": str(free_folder(space.outputs, clip, values["edit.prompt"], taken)),
            "trajectories.dir": str(space.trajectories),
        }
    )
    try:
        config = _resolve(settings)
    except ConfigError as error:
        raise ConfigError(str(error), beside_field(error.mistakes, values[REGIONS])) from error
    _refuse_files(config, space)
    check_words(config.edit, config.clip.prompt)
    return config


def to_clip(values: Values, clip: str) -> Clip:
    """The part of a clip that a form describes, whatever is to become of it.

    Raises:
        ConfigError: with all mistakes of the settings of the clip.
    """
    if not clip:
        text = f"clip.path: {NO_CLIP}"
        raise ConfigError(text, [text])
    settings, mistakes = _parsed({key: text for key, text in values.items() if key.startswith("clip.")})
    if mistakes:
        raise ConfigError("; ".join(mistakes), mistakes)
    return _resolve(UNSET | settings | {"clip.path": clip}).clip


def to_edit(values: Values) -> Edit:
    """What a form says about edited frames, whatever else it says.

    Raises:
        ConfigError: that cannot be parsed.
    """
    settings, mistakes = _parsed({EDITED_FRAMES: values[EDITED_FRAMES]})
    if mistakes:
        raise ConfigError("; ".join(mistakes), mistakes)
    return _resolve(UNSET | settings | {"edit.mode": "keyframes"}).edit


def to_values(config: Config, space: Space) -> dict[str, str]:
    """What the fields show for a configuration; those at their default are empty."""
    settings = _flat(config.model_dump(mode="json"))
    defaults = _flat(_defaults(config))
    regions = to_fields(settings.pop(REGIONS))
    texts = {key: "" if value == defaults.get(key) else _text(value) for key, value in settings.items()} | regions
    return {key: texts[key] for key in keys(space)}


def from_yaml(text: str, space: Space) -> tuple[Config, str]:
    """The configuration in a YAML text, and the clip that it names; what it leaves out is at its default.

    Raises:
        ConfigError: it is not YAML, refers to files or variables, or has mistakes.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"expected YAML with sections such as clip, model and edit ({error})") from error
    if not isinstance(content, dict):
        raise ConfigError("expected YAML with sections such as clip, model and edit")
    if "extends" in content or _refers(content):
        raise ConfigError(
            "expected settings written out, without extends: and ${…}; load what `tokenflow config FILE` prints"
        )
    flat = _flat(unescape_references(content))
    clip = str(flat.get("clip.path", ""))
    model = {"model.path": space.models[0]} if space.models else {}
    config = _resolve(UNSET | model | flat)
    _refuse_hidden(config, space)
    return config, clip


def _refers(content: Any) -> bool:
    """Whether any text in parsed YAML refers to a setting or variable, however it was written."""
    match content:
        case str():
            return re.search(r"(?<!\\)(\\\\)*\$\{", content) is not None
        case dict():
            return any(_refers(each) for pair in content.items() for each in pair)
        case list() | tuple():
            return any(map(_refers, content))
    return False


def _refuse_hidden(config: Config, space: Space) -> None:
    """Check that no setting without a field departs from its default."""
    settings, defaults = _flat(config.model_dump(mode="json")), _flat(_defaults(config))
    allowed = {*keys(space), *CHOSEN_BY_THE_PAGE}
    mistakes = _not_available(key for key, value in settings.items() if key not in allowed and value != defaults[key])
    if mistakes:
        raise ConfigError("; ".join(mistakes), mistakes)
    _refuse_files(config, space)


def _refuse_files(config: Config, space: Space) -> None:
    """Check that a shared page's settings name no file or model but those that are checked where they are read."""
    if space.is_local:
        return
    usual = named_files(_default(config))
    found = {key: name for key, name in named_files(config).items() if name != usual.get(key)}
    mistakes = _not_available(key for key in found if not f"{key}.".startswith(CHECKED_WHERE_READ))
    if mistakes:
        raise ConfigError("; ".join(mistakes), mistakes)


def _hidden(values: Values, space: Space) -> list[str]:
    """What is wrong with a form that has fields which the page does not."""
    allowed = keys(space)
    return _not_available(key for key in values if key not in allowed)


def _not_available(found: Iterable[str]) -> list[str]:
    return [f"{key}: not available here; remove it" for key in found]


def command(config: Config) -> str:
    """The command line that makes the same edit."""
    settings, defaults = _flat(config.model_dump(mode="json")), _flat(_defaults(config))
    clip, source, prompt = (settings[key] for key in ("clip.path", "clip.prompt", "edit.prompt"))
    defaults |= {
        "clip.path": clip,
        "clip.prompt": source,
        "edit.prompt": prompt,
        "output.dir": output_folder(clip, prompt),
        "model.path": BUNDLED_MODEL.as_posix() if BUNDLED_MODEL.is_dir() else None,
    }
    escaped = {key: escape_references(value) for key, value in settings.items() if value != defaults[key]}
    words = [f"{key}={_text(value)}" for key, value in escaped.items()]
    return shlex.join(["tokenflow", "edit", clip, "--from", source, "--to", prompt, *words])


def masks(edit: Edit) -> list[Path]:
    """The files of masks that an edit names."""
    regions = [] if edit.regions == "auto" else edit.regions
    return [region.mask for region in regions if region.mask is not None]


def free_folder(outputs: Path, clip: str, prompt: str, taken: Collection[Path] = ()) -> Path:
    """A result folder named after clip and prompt, numbered if there is one of that name."""
    folder = outputs / Path(output_folder(clip, prompt)).name
    names = (folder if number == 1 else folder.with_name(f"{folder.name}-{number}") for number in range(1, 10**6))
    return next(name for name in names if name not in taken and not name.exists())


def _missing(values: Values, clip: str) -> dict[str, str]:
    """What has to be filled in, by key."""
    missing = {
        "clip.path": not clip and NO_CLIP,
        "clip.prompt": not values["clip.prompt"].strip() and "say what the clip shows, such as: a dog on grass",
        "edit.prompt": not values["edit.prompt"].strip()
        and values["edit.mode"] != "keyframes"  # which takes it from the images
        and "say what it should show, such as: a tiger on grass",
        "model.path": not values["model.path"].strip() and "choose a model",
    }
    return {key: text for key, text in missing.items() if text}


def _parsed(values: Values) -> tuple[dict[str, Any], list[str]]:
    """The settings that were filled in, and what cannot be parsed. Sentences and paths are taken literally."""
    settings: dict[str, Any] = {}
    mistakes: list[str] = []
    if values.get(REGIONS):
        try:
            settings[REGIONS] = to_setting(values)
        except ConfigError as error:
            mistakes += error.mistakes
    for key, text in values.items():
        if not text.strip() or key in (REGIONS, *PARTS):
            continue
        try:
            settings[key] = text if annotation(Config, key) in (str, Path) else yaml.safe_load(text)
        except yaml.YAMLError:
            mistakes.append(f"{key}: cannot parse {text!r}")
    return settings, mistakes


def _resolve(settings: Mapping[str, Any]) -> Config:
    """A configuration from dotted keys, with the preset that they name; nothing is read from the environment."""
    nested = OmegaConf.create({})
    for key, value in settings.items():
        OmegaConf.update(nested, key, escape_references(value), force_add=True)
    merged = OmegaConf.merge(PRESETS.get(str(settings.get("preset")), {}), nested)
    if not OmegaConf.is_dict(merged):
        raise ConfigError("expected settings with sections such as clip, model and edit")
    return resolve(merged, environment={}, name=NAME)  # type: ignore[arg-type]


def _defaults(config: Config) -> dict[str, Any]:
    """The settings that hold for a configuration's preset where nothing else is given."""
    return _default(config).model_dump(mode="json") | {"preset": Config.model_fields["preset"].default}


def _default(config: Config) -> Config:
    given: dict[str, Any] = {"clip": {"path": "none", "prompt": ""}, "model": {"path": "none"}}
    given |= {"edit": {"prompt": ""}, "output": {"dir": "none"}, "preset": config.preset}
    return Config.model_validate(OmegaConf.to_container(OmegaConf.merge(PRESETS[config.preset], given)))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and is_section(annotation(Config, f"{prefix}{name}")):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _text(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
