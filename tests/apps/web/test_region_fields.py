"""The fields of a region say the setting `edit.regions`, and show it again."""

from typing import Any

import pytest

from tokenflow.apps.web.form import from_yaml, to_config, to_values
from tokenflow.apps.web.mistakes import by_field
from tokenflow.apps.web.region_fields import FEATHER, GROW, LISTED, MASK, PAINTED, REGIONS, WORDS
from tokenflow.apps.web.space import Space
from tokenflow.errors import ConfigError

TWO = "[{words: dog, prompt: a tiger}, {words: dog, invert: true}]"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({REGIONS: "auto"}, "auto"),
        ({REGIONS: "words", WORDS: "dog", GROW: "4.0"}, [{"words": "dog", "grow": 4.0}]),
        ({REGIONS: "words", WORDS: "dog", FEATHER: "0.0"}, [{"words": "dog", "feather": 0.0}]),
        ({REGIONS: "painted", PAINTED: "{mask: a b.png, mask_frame: 3}"}, [{"mask": "a b.png", "mask_frame": 3}]),
        ({REGIONS: "mask", MASK: "a: b.png", GROW: "-2.0"}, [{"mask": "a: b.png", "grow": -2.0}]),
        (
            {REGIONS: "list", LISTED: TWO},
            [{"words": "dog", "prompt": "a tiger"}, {"words": "dog", "invert": True}],
        ),
        ({REGIONS: "list", LISTED: "[{auto: true, grow: 3.0}]"}, [{"auto": True, "grow": 3.0}]),
    ],
)
def test_fields_become_the_setting_and_the_same_fields_again(
    fields: dict[str, str], expected: Any, values: dict[str, str], clip: str, space: Space
) -> None:
    values |= fields
    config = to_config(values, clip, space)
    dumped = config.model_dump(mode="json", exclude_defaults=True)["edit"].get("regions", [])
    assert dumped == expected
    assert to_values(config, space) == values
    assert from_yaml(config.to_yaml(), space)[0] == config


def test_what_another_kind_of_region_was_given_does_not_count(values: dict[str, str], clip: str, space: Space) -> None:
    config = to_config(values | {WORDS: "dog", PAINTED: "{", LISTED: TWO, GROW: "3"}, clip, space)
    assert config.edit.regions == ()


@pytest.mark.parametrize(
    ("fields", "key", "message"),
    [
        ({REGIONS: "circle"}, REGIONS, "expected one of auto, words, painted, mask, list, got 'circle'"),
        ({REGIONS: "words"}, WORDS, "say which words"),
        ({REGIONS: "words", WORDS: "cat"}, WORDS, "'cat' are not in the source prompt"),
        ({REGIONS: "words", WORDS: "dog", GROW: "much"}, GROW, "expected a valid number"),
        ({REGIONS: "words", WORDS: "dog", FEATHER: "-1"}, FEATHER, "expected a number greater than or equal to 0"),
        ({REGIONS: "painted"}, REGIONS, "paint the part"),
        ({REGIONS: "mask"}, MASK, "upload an image"),
        ({REGIONS: "list"}, LISTED, "expected regions"),
        ({REGIONS: "list", LISTED: "[{"}, LISTED, "cannot parse"),
        (
            {REGIONS: "list", LISTED: "[{words: dog, grow: big}]"},
            REGIONS,
            "edit.regions.0.grow: expected a valid number",
        ),
        ({REGIONS: "list", LISTED: "[{words: dog}, {words: cat}]"}, LISTED, "'cat' are not in the source prompt"),
    ],
)
def test_a_mistake_is_told_of_its_field(
    fields: dict[str, str], key: str, message: str, values: dict[str, str], clip: str, space: Space
) -> None:
    with pytest.raises(ConfigError) as raised:
        to_config(values | fields, clip, space)
    (found,) = by_field(raised.value, values).items()
    assert found[0] == key
    assert message in found[1]
