"""The form and a configuration say the same, and what is wrong is said in the words of the command line."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.apps.web.conftest import names_and_paths
from tokenflow.apps.one_line import one_line_config
from tokenflow.apps.web.fields import SETTINGS, choices_of
from tokenflow.apps.web.form import (
    CHOSEN_BY_THE_PAGE,
    EDITED_FRAMES,
    PATHS,
    command,
    free_folder,
    from_yaml,
    keys,
    to_clip,
    to_config,
    to_values,
)
from tokenflow.apps.web.region_fields import PARTS, REGIONS
from tokenflow.apps.web.space import Space
from tokenflow.config import Config, load_config
from tokenflow.config.reference import all_settings
from tokenflow.errors import ConfigError


def test_every_setting_has_a_field_or_is_chosen_by_the_page(space: Space) -> None:
    settings = {setting.key for setting in all_settings(Config)}
    assert {*keys(space), *CHOSEN_BY_THE_PAGE} == settings | set(PARTS)


OTHERS = {
    "clip.rate": "12.5",
    "clip.cuts": "[3]",
    "clip.sound": "music.mp3",
    "clip.background": "white",
    "clip.size": "[32, 16]",
    "model.device": "cpu",
    "model.loras": "[{path: tiger.safetensors}]",
    "model.textual_inversions": "[{path: tiger.safetensors}]",
    REGIONS: "auto",
    "edit.references": "[a.png]",
    "edit.controlnet.canny_thresholds": "[50, 100]",
    "edit.controlnet.also": "[{path: depth}]",
    "edit.keyframes.frames": "{0: a.png}",
    "output.quality": "20",
}
"""Values of settings that are neither a choice, nor a number with a default, nor a text."""


def another(key: str) -> str:
    """What is typed into a field for a value that is not the default."""
    default = SETTINGS[key].default
    if key in OTHERS:
        return OTHERS[key]
    if choices_of(key):
        return next(each for each in reversed(choices_of(key)) if each != default)
    number = yaml.safe_load(default or "null")
    if isinstance(number, float):
        return str(number / 2 or 0.5)
    if isinstance(number, int):
        return str(number + 1)
    return "3" if SETTINGS[key].values.startswith("integer") else "other"


def test_what_is_typed_into_each_field_is_set_shown_and_written_out(clip: str, space: Space) -> None:
    typed = {key: another(key) for key in keys(space) if key not in PARTS} | dict.fromkeys(PARTS, "")
    typed |= {"edit.guidance_scale": "3.5", "edit.flowedit.source_guidance_scale": "1.2"}  # which are 1 or more
    config = to_config(typed, clip, space)
    shown = to_values(config, space)
    assert [key for key, text in shown.items() if not text and key not in PARTS] == []
    assert to_config(shown, clip, space) == config
    assert from_yaml(config.to_yaml(), space)[0] == config
    _, _, source, _, said, _, wanted, *overrides = shlex.split(command(config))
    assert one_line_config(source, said, wanted, overrides) == config


def test_a_shared_page_has_the_settings_of_clip_and_edit_and_no_paths(space: Space) -> None:
    shared = keys(replace(space, is_local=False))
    assert {key.partition(".")[0] for key in shared} == {"preset", "clip", "edit", "model"}
    assert not {*CHOSEN_BY_THE_PAGE, *PATHS} & set(shared)
    assert [key for key in shared if key.startswith("model")] == ["model.path"]


def test_every_path_and_name_of_the_configuration_is_known_to_the_rules_of_a_shared_page() -> None:
    assert names_and_paths() == {*CHOSEN_BY_THE_PAGE, *PATHS, "model.path", EDITED_FRAMES, REGIONS}


def test_a_form_becomes_a_configuration_and_a_form_again(values: dict[str, str], clip: str, space: Space) -> None:
    values |= {"edit.prompt": "100 % ${golden} 'tiger'", "clip.size": "[32, 16]", "edit.negative_prompt": "yes"}
    config = to_config(values, clip, space)
    assert (config.clip.size, config.edit.prompt) == ((32, 16), values["edit.prompt"])
    assert to_values(config, space) == values


def test_settings_beside_a_preset_override_it(values: dict[str, str], clip: str, space: Space) -> None:
    values |= {"preset": "fast", "edit.steps": "3", "inversion.steps": ""}
    config = to_config(values, clip, space)
    assert (config.inversion.steps, config.edit.steps) == (8, 3)
    assert to_values(config, space) == values


def test_edited_frames_are_told_by_number(values: dict[str, str], clip: str, space: Space) -> None:
    values |= {"edit.mode": "keyframes", "edit.keyframes.frames": "{0: a.png, 3: b.png}"}
    config = to_config(values, clip, space)
    assert config.edit.keyframes.frames == {0: Path("a.png"), 3: Path("b.png")}
    again = to_config(to_values(config, space), clip, space)
    assert again == config
    assert from_yaml(config.to_yaml(), space)[0] == config


def test_the_command_makes_the_same_edit(values: dict[str, str], clip: str, space: Space) -> None:
    values |= {"preset": "fast", "edit.steps": "3", "edit.prompt": "a ${golden} 'tiger'", "output.pngs": "true"}
    config = to_config(values, clip, space)
    tokenflow, edit, source, _, said, _, wanted, *overrides = shlex.split(command(config))
    assert (tokenflow, edit) == ("tokenflow", "edit")
    assert one_line_config(source, said, wanted, overrides) == config


def test_yaml_comes_back_as_the_same_configuration(values: dict[str, str], clip: str, space: Space) -> None:
    values |= {"edit.prompt": "a tiger: ${golden}", "preset": "fast", "edit.steps": "3"}
    config = to_config(values, clip, space)
    again, named = from_yaml(config.to_yaml(), space)
    assert (again, named) == (config, clip)


def test_the_example_files_can_be_loaded_as_yaml_once_they_are_written_out(space: Space) -> None:
    config = load_config("configs/dog_to_tiger.yaml", environment={})
    assert from_yaml(config.to_yaml(), space)[0] == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: other.yaml", "without extends:"),
        ("edit: {prompt: '${oc.env:HOME}'}", r"\$\{…\}"),
        ("- a list", "expected YAML with sections"),
        ("a: [", "expected YAML"),
        ("edit: {stepz: 3}", "did you mean edit.steps"),
        ("edit: {steps: none}", "edit.steps: expected"),
    ],
)
def test_yaml_that_cannot_be_used_is_refused(text: str, message: str, space: Space) -> None:
    with pytest.raises(ConfigError, match=message):
        from_yaml(text, space)


def test_frames_may_be_taken_out_before_the_rest_of_the_form_is_filled_in(clip: str, space: Space) -> None:
    values = dict.fromkeys(keys(space), "") | {"clip.every": "2", "edit.steps": "many"}
    assert (to_clip(values, clip).every, to_clip(values, clip).path) == (2, Path(clip))
    with pytest.raises(ConfigError, match=r"clip\.path: choose a clip"):
        to_clip(values, "")
    with pytest.raises(ConfigError, match=r"clip\.every: expected"):
        to_clip(values | {"clip.every": "0"}, clip)


def test_edited_frames_need_no_sentence(values: dict[str, str], clip: str, space: Space) -> None:
    values |= {"edit.prompt": "", "edit.mode": "keyframes", EDITED_FRAMES: "frames"}
    assert to_config(values, clip, space).edit.keyframes.paths == [Path("frames")]


def test_all_mistakes_are_given_with_their_settings(values: dict[str, str], clip: str, space: Space) -> None:
    values |= {"edit.steps": "many", "edit.pnp.features_until": "2"}
    with pytest.raises(ConfigError) as raised:
        to_config(values, clip, space)
    assert [mistake.partition(":")[0] for mistake in raised.value.mistakes] == [
        "edit.steps",
        "edit.pnp.features_until",
    ]


def test_what_is_missing_is_said_before_anything_else(values: dict[str, str], space: Space) -> None:
    with pytest.raises(ConfigError) as raised:
        to_config(values | {"edit.prompt": " ", "clip.prompt": ""}, "", space)
    assert {mistake.partition(":")[0] for mistake in raised.value.mistakes} == {
        "clip.path",
        "clip.prompt",
        "edit.prompt",
    }


def test_a_result_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    first = free_folder(tmp_path, "clip.mp4", "a tiger")
    first.mkdir()
    second = free_folder(tmp_path, "clip.mp4", "a tiger")
    third = free_folder(tmp_path, "clip.mp4", "a tiger", [second])
    assert [folder.name for folder in (first, second, third)] == ["clip-a-tiger", "clip-a-tiger-2", "clip-a-tiger-3"]


def test_no_list_of_a_form_refers_to_the_environment(
    values: dict[str, str], clip: str, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "a-secret")

    def outcome(key: str, text: str) -> str:
        try:
            return to_config(values | {key: text}, clip, space).model_dump_json()
        except ConfigError as error:
            return str(error)

    texts = ("['${oc.env:SECRET_OF_THE_SERVER}']", "[{path: [['${oc.env:SECRET_OF_THE_SERVER}']]}]")
    fields = [key for key in keys(space) if key not in (REGIONS, *PARTS)]
    assert not [key for key in fields for text in texts if "a-secret" in outcome(key, text)]
    listed = values | {"edit.references": "[{path: '${oc.env:SECRET_OF_THE_SERVER}'}]"}
    assert str(to_config(listed, clip, space).edit.references[0].path) == "${oc.env:SECRET_OF_THE_SERVER}"


def test_yaml_that_hides_a_reference_is_refused_and_what_was_written_is_read_back(
    values: dict[str, str], clip: str, space: Space
) -> None:
    config = to_config(values | {"edit.references": "['${a}.png']", "edit.prompt": r"\\${b}"}, clip, space)
    assert from_yaml(config.to_yaml(), space)[0].edit == config.edit
    with pytest.raises(ConfigError, match="written out"):
        from_yaml(r'edit: {references: ["\x24{oc.env:HOME}"]}', space)


def test_a_shared_page_takes_no_model_in_a_list(values: dict[str, str], clip: str, space: Space) -> None:
    shared = replace(space, is_local=False)
    form = {key: text for key, text in values.items() if key in keys(shared)}
    with pytest.raises(ConfigError, match=r"edit\.controlnet\.also\.0\.path: not available here"):
        to_config(form | {"edit.controlnet.also": "[{path: /etc/hostname}]"}, clip, shared)
