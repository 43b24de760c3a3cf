"""The region of the form: what its fields say as the setting `edit.regions`, and the other way round."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tokenflow.config import Edit
from tokenflow.config import Region as RegionSettings
from tokenflow.errors import ConfigError
from tokenflow.regions.words import split_words, without_words

REGIONS = "edit.regions"
"""The setting. Its field says what kind of region there is: one of `KINDS`."""

WORDS, PAINTED, MASK, LISTED, GROW, FEATHER = PARTS = (
    f"{REGIONS}.words",
    f"{REGIONS}.painted",
    f"{REGIONS}.mask",
    f"{REGIONS}.list",
    f"{REGIONS}.grow",
    f"{REGIONS}.feather",
)
"""Fields beside it. `PAINTED` holds mask and mask_frame as YAML, `LISTED` the whole setting."""

DEFAULTS = dict.fromkeys(PARTS, "") | {
    f"{REGIONS}.{name}": str(RegionSettings.model_fields[name].default) for name in ("grow", "feather")
}
"""What an empty field means."""

KINDS = ("", "auto", "words", "painted", "mask", "list")
"""What may change: the whole frame, a region of one kind, or all that a list says."""

SIMPLE = ("words", "painted", "mask")
"""Kinds of a single region that grows and fades."""

MISSING = {
    "words": f"{WORDS}: say which words of what the clip shows, such as: dog",
    "painted": f"{REGIONS}: paint the part that may change on the frame",
    "mask": f"{MASK}: upload an image, white where the clip may change",
    "list": f"{LISTED}: expected regions, such as [{{words: dog}}]",
}
"""What is wrong with a kind whose own field is empty."""


def to_setting(values: Mapping[str, str]) -> Any:
    """The setting that the fields describe.

    Raises:
        ConfigError: a field is empty or cannot be parsed.
    """
    kind = values[REGIONS]
    if kind not in KINDS:
        raise _mistake(f"{REGIONS}: expected one of {', '.join(filter(None, KINDS))}, got {kind!r}")
    if kind in ("", "auto"):
        return kind or []
    key = f"{REGIONS}.{kind}"
    if not values[key].strip():
        raise _mistake(MISSING[kind])
    if kind == "list":
        return _parsed(values, LISTED)
    place = _parsed(values, PAINTED) if kind == "painted" else {kind: values[key]}
    edge = {name: _parsed(values, f"{REGIONS}.{name}") for name in ("grow", "feather")}
    return [place | {name: value for name, value in edge.items() if value is not None}]


def to_fields(setting: Any) -> dict[str, str]:
    """What the fields show for the setting, as `Config.model_dump` gives it."""
    fields = dict.fromkeys((REGIONS, *PARTS), "")
    if not setting or setting == "auto":
        return fields | {REGIONS: setting or ""}
    regions = [_given(region) for region in setting]
    kind = _kind(regions)
    fields[REGIONS] = kind
    if kind == "list":
        return fields | {LISTED: _text(regions)}
    (region,) = regions
    fields |= {f"{REGIONS}.{name}": str(region.pop(name)) for name in ("grow", "feather") if name in region}
    return fields | {f"{REGIONS}.{kind}": _text(region) if kind == "painted" else str(region[kind])}


def check_words(edit: Edit, source_prompt: str) -> None:
    """Check that the words of regions are in the source prompt.

    Raises:
        ConfigError: some are not.
    """
    for region in () if edit.regions == "auto" else edit.regions:
        if region.words is not None:
            try:
                without_words(source_prompt, split_words(region.words))
            except ConfigError as error:
                raise _mistake(f"{WORDS if len(edit.regions) == 1 else LISTED}: {error}") from error


def beside_field(mistakes: Sequence[str], kind: str) -> list[str]:
    """Mistakes of the setting's first region, told of the field that says it."""
    first = f"{REGIONS}.0."
    return [each.replace(first, f"{REGIONS}.", 1) if kind in SIMPLE else each for each in mistakes]


def _kind(regions: Sequence[Mapping[str, Any]]) -> str:
    """The kind of field that shows these regions."""
    names = set().union(*regions) - {"grow", "feather"}
    if len(regions) > 1 or names not in ({"words"}, {"mask"}, {"mask", "mask_frame"}):
        return "list"
    return "words" if names == {"words"} else "painted" if "mask_frame" in names else "mask"


def _given(region: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a region that are not at their default."""
    defaults = {name: field.default for name, field in RegionSettings.model_fields.items()}
    return {name: value for name, value in region.items() if value != defaults[name]}


def _parsed(values: Mapping[str, str], key: str) -> Any:
    try:
        return yaml.safe_load(values[key])
    except yaml.YAMLError as error:
        raise _mistake(f"{key}: cannot parse {values[key]!r}") from error


def _text(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True).strip()


def _mistake(text: str) -> ConfigError:
    return ConfigError(text, [text])
