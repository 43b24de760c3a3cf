from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tokenflow.config import Config, Edit, load_config
from tokenflow.errors import ConfigError, TokenflowError

CONFIGS = Path(__file__).parents[2] / "configs"
MINIMAL = """
clip: {path: clip.mp4, prompt: a dog}
model: {path: model}
edit: {prompt: a tiger}
output: {dir: out}
"""


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "minimal.yaml"
    path.write_text(MINIMAL)
    return path


def test_a_minimal_file_gets_the_defaults(minimal: Path) -> None:
    config = load_config(minimal, environment={})
    assert config.inversion.steps == config.edit.steps == 25
    assert config.edit.mode == "pnp"
    assert config.edit.pnp.features_until == 1.0
    assert config.edit.pnp.attention_until == 0.8
    assert config.edit.propagation == "tokenflow"
    assert config.edit.correspondence == "flow"
    assert config.edit.keyframe_interval is None


def test_the_command_line_overrides_the_environment_which_overrides_the_file(minimal: Path) -> None:
    environment = {"TOKENFLOW_EDIT__STEPS": "30", "TOKENFLOW_EDIT__SEED": "7", "PATH": "/bin"}
    config = load_config(minimal, ["edit.steps=40"], environment)
    assert config.edit.steps == 40
    assert config.edit.seed == 7
    assert config.edit.prompt == "a tiger"


def test_a_file_overrides_those_it_extends(minimal: Path) -> None:
    other = minimal.with_name("other.yaml")
    other.write_text("extends: minimal.yaml\nedit: {prompt: a zebra, steps: 5}\n")
    third = minimal.with_name("third.yaml")
    third.write_text("extends: [other.yaml]\nedit: {steps: 25}\n")
    config = load_config(third, environment={})
    assert (config.edit.prompt, config.edit.steps, config.clip.prompt) == ("a zebra", 25, "a dog")


def test_files_that_extend_each_other_are_listed(minimal: Path) -> None:
    minimal.write_text("extends: other.yaml")
    minimal.with_name("other.yaml").write_text("extends: minimal.yaml")
    with pytest.raises(ConfigError, match=r"in a circle: .*minimal\.yaml → .*other\.yaml → .*minimal\.yaml"):
        load_config(minimal, environment={})


@pytest.mark.parametrize("bases", ["3", "{a: b}", "[1]", "[null]", "[[a]]", "false", "${x}"])
def test_only_file_names_can_be_extended(minimal: Path, bases: str) -> None:
    minimal.write_text(f"extends: {bases}\n{MINIMAL}")
    with pytest.raises(ConfigError, match=r"minimal\.yaml: extends"):
        load_config(minimal, environment={})


def test_values_can_refer_to_other_values(minimal: Path) -> None:
    config = load_config(minimal, ["edit.prompt=${clip.prompt} of gold", "edit.steps=${inversion.steps}"], {})
    assert config.edit.prompt == "a dog of gold"
    assert config.edit.steps == config.inversion.steps


@pytest.mark.parametrize(
    "text", ["a dog: big", "a tiger #3", "[red", "1984", "yes", "null", "a=b", "it's", "{a}", "a\nb"]
)
def test_a_prompt_from_command_line_or_environment_is_taken_literally(minimal: Path, text: str) -> None:
    assert load_config(minimal, [f"edit.prompt={text}"], {}).edit.prompt == text
    assert load_config(minimal, [], {"TOKENFLOW_EDIT__PROMPT": text}).edit.prompt == text


def test_a_mistake_in_the_environment_names_its_variable(minimal: Path) -> None:
    wrong = {"TOKENFLOW_EDIT__STEPS": "many", "TOKENFLOW_EDTI__SEED": "1", "TOKENFLOW_HOME": "x", "TOKENFLOW__": "y"}
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, [], wrong)
    message = str(caught.value)
    assert "got 'many' (set by TOKENFLOW_EDIT__STEPS)" in message
    assert "edti: unknown; did you mean edit? (set by TOKENFLOW_EDTI__SEED)" in message
    assert "HOME" not in message


def test_a_mistake_below_a_setting_or_in_a_reference_names_the_variable(minimal: Path) -> None:
    wrong = {"TOKENFLOW_EDIT__STEPS__X": "1", "TOKENFLOW_EDIT__PROMPT": "${no}", "TOKENFLOW_EDIT__SEED": "["}
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, [], wrong)
    assert all(f"(set by {variable})" in str(caught.value) for variable in wrong)


def test_a_variable_that_lacks_an_underscore_is_reported_with_all_other_mistakes(minimal: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, ["edit.seed=-1"], {"TOKENFLOW_EDIT_STEPS": "5", "TOKENFLOW_EDIT_PNP_FEATURES_UNTIL": "1"})
    message = str(caught.value)
    assert "TOKENFLOW_EDIT_STEPS: has no effect; write TOKENFLOW_EDIT__STEPS; " in message
    assert "write TOKENFLOW_EDIT__PNP__FEATURES_UNTIL; " in message
    assert "edit.seed: " in message


def test_a_mistake_on_the_command_line_does_not_name_the_variable_it_overrides(minimal: Path) -> None:
    with pytest.raises(ConfigError, match=r"edit\.steps: .*, got -1$"):
        load_config(minimal, ["edit.steps=-1"], {"TOKENFLOW_EDIT__STEPS": "5"})


def test_an_escaped_reference_is_taken_literally(minimal: Path) -> None:
    minimal.write_text(MINIMAL + r"words: {price: 'costs \${5'}")
    config = load_config(minimal, [r"edit.prompt=a \${tiger}", "clip.prompt=${words.price}"], {})
    assert (config.edit.prompt, config.clip.prompt) == ("a ${tiger}", "costs ${5")


def test_a_tilde_is_the_home_directory(minimal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(minimal.parent))
    other = minimal.with_name("other.yaml")
    other.write_text("extends: ~/minimal.yaml\noutput: {dir: ~/out}\nmodel: {path: ~/model}\n")
    config = load_config(other, ["clip.path=~/clip.mp4", "metrics.clip=org/~clip"], {})
    assert config.output.dir == minimal.parent / "out"
    assert config.model.path == str(minimal.parent / "model")
    assert config.clip.path == minimal.parent / "clip.mp4"
    assert config.metrics.clip == "org/~clip"


def test_all_mistakes_are_reported_at_once_with_their_keys(minimal: Path) -> None:
    wrong = ["edit.promt=x", "edit.steps=-1", "edit.mode=magic", "inversion.batch_size=many", "edit.guidance_scale=nan"]
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, wrong, {})
    message = str(caught.value)
    assert "edit.promt: unknown; did you mean edit.prompt?" in message
    for key in ("edit.steps", "edit.mode", "inversion.batch_size", "edit.guidance_scale"):
        assert f"{key}: " in message
    assert "\n" not in message


def test_unreadable_values_and_broken_references_do_not_hide_other_mistakes(minimal: Path) -> None:
    wrong = ["clip=[]", "edit.seed=[3", "edit.negative_prompt=${nowhere}", "edit.prompt=${words", "inversion.steps=0"]
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, [*wrong, "model.device=${neither}"], {})
    message = str(caught.value).removeprefix(f"{minimal}: ")
    keys = ["clip", "edit.seed", "edit.negative_prompt", "edit.prompt", "inversion.steps", "model.device"]
    assert sorted(part.partition(": ")[0] for part in message.split("; ") if ": " in part) == sorted(keys)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("edit.pnp.features_until=1.5", "expected a number less than or equal to 1, got 1.5"),
        ("edit.sdedit.strength=0", "greater than 0"),
        ("edit.keyframe_window=1", "greater than or equal to 2"),
        ("edit.guidance_scale=0.5", "greater than or equal to 1"),
        ("clip.frames=0", "greater than or equal to 1"),
        ("edit=3", r"edit: expected a section with prompt, negative_prompt, .*, got 3"),
        ("edit=[1, 2]", r"minimal\.yaml: edit: expected a section with prompt, .*, got '\[1, 2\]'"),
        ("edit.prompt=${nowhere}", r"edit\.prompt: .*nowhere"),
        ("edit.prompt=${edit.prompt}", r"edit\.prompt: Recursive"),
        ("edit.prompt=costs ${5", r"for a literal \$\{, write \\\$\{"),
        ("edit.prompt=a ${tiger}", r"tiger.*for a literal \$\{, write \\\$\{"),
        ("edit.steps=true", r"edit\.steps: expected a string or number \(quote words such as 'yes'\), got True"),
        ("edit.guidance_scale=yes", r"edit\.guidance_scale: expected a string or number"),
        ("clip.cuts=[true]", r"clip\.cuts: expected auto, or the frames at which shots begin, such as \[49\]"),
        ("clip.cuts=3", r"clip\.cuts: expected auto, or the frames"),
        ("clip.size=true", r"clip\.size: expected a string or number"),
        ("clip.frames=false", r"clip\.frames: expected a string or number"),
        (
            "edit.controlnet.canny_thresholds=[9, 5]",
            r"edit\.controlnet\.canny_thresholds: expected two numbers from 0, the lower first, got \[9, 5\]",
        ),
        ("model.loras=a", r"model\.loras: expected a list, such as \[…\], got 'a'"),
        ("output.pngs=3", r"output\.pngs: expected a valid boolean, got 3"),
        ("edit=true", r"edit: expected a section with prompt"),
        ("edit_steps=5", r"edit_steps: unknown; did you mean edit\.steps\?"),
        ("output.dir=", r"output\.dir: expected a name; write \. for the working directory, got ''"),
        ("clip.path=  ", r"clip\.path: expected a name"),
        ("trajectories.dir=", r"trajectories\.dir: expected a name"),
        ("model.path=", r"model\.path: expected a name"),
        ("metrics.mask=''", r"metrics\.mask: expected a name"),
        ("edit.steps=[3", r"edit\.steps: cannot parse '\[3' \("),
        ("edit.steps=2.5", r"edit\.steps: expected a valid integer, got 2\.5"),
        ("edit.steps=", r"edit\.steps: .*got null"),
        ("edit.seed=9999999999999999999", "less than or equal to"),
        ("clip.start=.inf", r"clip\.start: "),
        ("clip.size=[8, 8]", r"clip\.size: expected the shorter side in pixels, or a box .*, got \[8, 8\]"),
        ("clip.size=big", r"clip\.size: expected the shorter side in pixels, or a box"),
        ("promt=x", r"promt: unknown; did you mean clip\.prompt or edit\.prompt\?"),
        ("steps=3", r"steps: unknown; did you mean inversion\.steps or edit\.steps\?"),
        ("edit.pnp.feature_until=1", r"did you mean edit\.pnp\.features_until\?"),
        ("edit.unheard=1", "edit has prompt, negative_prompt"),
        ("edit.steps.x=1", r"edit\.steps: "),
        ("extends=base.yaml", "extends: unknown"),
        ("steps", "expected an override of the form key=value, such as edit.steps=30, got 'steps'"),
        ("=3", "key=value"),
        ("edit..steps=3", "key=value"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(minimal: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(minimal, [override], {})
    assert "\n" not in str(caught.value)


INVALID_FILES = {
    "empty": "",
    "list": "- 1\n- 2\n",
    "broken": "clip: [",
    "text": "just words",
    "too little": "clip: {path: x}\n",
    "number as key": "1: 2\n",
    "list as key": "? [a]\n: b\n",
    "key twice": "clip: {}\nclip: {}\n",
    "set": "!!set {a, b}\n",
    "code": "a: !!python/object/apply:os.system [x]\n",
    "alias of itself": "clip: &a {path: *a}\n",
    "deep": "a: " + "{a: " * 400 + "1" + "}" * 400,
}


@pytest.mark.parametrize("text", INVALID_FILES.values(), ids=INVALID_FILES)
def test_an_invalid_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"wrong\.yaml") as caught:
        load_config(path, environment={})
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"configuration file '.*none\.yaml' not found; see configs/"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(
        ConfigError, match=r"cannot access .*a \(File name too long\); check the path and its permissions"
    ):
        load_config(tmp_path / ("a" * 300))


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_any_bytes_give_one_of_our_errors(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_bytes(content)
    with pytest.raises(TokenflowError):
        load_config(path, environment={})


def assert_config_or_one_line_error(path: Path, overrides: list[str]) -> None:
    message = ""
    try:
        assert isinstance(load_config(path, overrides, {}), Config)
    except ConfigError as error:
        message = str(error)
    assert "\n" not in message


KEYS = st.sampled_from(
    ["clip", "clip.path", "clip.size", "edit.prompt", "edit.pnp", "edit.steps", "edit.seed", "extends", "x.y", "output"]
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.text("[]{}:,&*!?#${}'\"\\ -.0e", max_size=12),
    st.sampled_from(["null", ".nan", "-.inf", "1e999", "9" * 30, "${edit.seed}", "${edit}", "${oc.env:NONE}", "???"]),
)


@given(st.lists(st.tuples(KEYS | st.text(max_size=8), VALUES), max_size=4))
@settings(max_examples=100)
def test_any_overrides_give_a_config_or_a_one_line_error(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "overridden.yaml"
    path.write_text(MINIMAL)
    assert_config_or_one_line_error(path, [f"{key}={value}" for key, value in pairs])


NODES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda node: st.one_of(
        st.lists(node, max_size=3), st.dictionaries(KEYS | st.integers() | st.text(max_size=5), node, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["clip", "edit", "model", "output", "extends", "inversion"]), NODES))
@settings(max_examples=100)
def test_any_structure_gives_a_config_or_a_one_line_error(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "structured.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(MINIMAL), **content}, allow_unicode=True))
    assert_config_or_one_line_error(path, [])


@given(st.one_of(st.text(max_size=30), st.text("${}\\a.:'\"?# ", max_size=20)))
@settings(max_examples=100)
def test_any_prompt_survives_saving_and_loading(tmp_path_factory: pytest.TempPathFactory, sentence: str) -> None:
    path = tmp_path_factory.getbasetemp() / "saved.yaml"
    plain = Config.model_validate(yaml.safe_load(MINIMAL))
    config = plain.model_copy(update={"edit": plain.edit.model_copy(update={"prompt": sentence})})
    path.write_text(config.to_yaml())
    assert load_config(path, environment={}) == config


def test_a_saved_config_loads_as_an_equal_one(minimal: Path) -> None:
    config = load_config(minimal, ["edit.prompt=${clip.prompt}s", "edit.negative_prompt='a: b'"], {})
    again = minimal.with_name("again.yaml")
    again.write_text(config.to_yaml())
    assert load_config(again, environment={}) == config


def test_a_config_is_immutable(minimal: Path) -> None:
    config = load_config(minimal, environment={})
    with pytest.raises(ValidationError):
        config.edit.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "path", sorted(set(CONFIGS.glob("*.yaml")) - {CONFIGS / "base.yaml"}), ids=lambda path: path.stem
)
def test_every_example_is_valid(path: Path) -> None:
    assert isinstance(load_config(path, environment={}), Config)


@pytest.mark.parametrize("mode", get_args(Edit.model_fields["mode"].annotation))
def test_every_mode_has_an_example_with_an_introduction(mode: str) -> None:
    examples = [path for path in CONFIGS.glob("*.yaml") if path.name != "base.yaml"]
    chosen = [path for path in examples if load_config(path, environment={}).edit.mode == mode]
    assert chosen
    assert all(path.read_text().startswith("# ") for path in chosen)


def steps(config: Config) -> tuple[int, int]:
    return config.inversion.steps, config.edit.steps


def test_the_standard_preset_is_the_default(minimal: Path) -> None:
    assert load_config(minimal, ["preset=standard"], {}) == load_config(minimal, environment={})


def test_a_preset_overrides_extended_files_and_is_overridden_by_settings_beside_it(minimal: Path) -> None:
    minimal.write_text(f"preset: fast\n{MINIMAL.replace('prompt: a tiger', 'prompt: a tiger, steps: 15')}")
    assert steps(load_config(minimal, environment={})) == (8, 15)
    other = minimal.with_name("other.yaml")
    other.write_text("extends: minimal.yaml\npreset: fast\n")
    assert steps(load_config(other, environment={})) == (8, 8)
    other.write_text("extends: minimal.yaml\npreset: standard\n")
    assert steps(load_config(other, environment={})) == (25, 25)
    assert steps(load_config(other, ["edit.steps=7", "preset=fast"], {})) == (8, 7)
    assert steps(load_config(other, environment={"TOKENFLOW_PRESET": "fast"})) == (8, 8)
    assert load_config(other, ["preset=fast"], {}).preset == "fast"


def test_an_unknown_preset_or_a_reference_to_one_is_refused(minimal: Path) -> None:
    with pytest.raises(ConfigError, match=r"preset: expected 'standard' or 'fast', got 'quick'"):
        load_config(minimal, ["preset=quick"], {})
    minimal.write_text("preset: ${edit.prompt}" + MINIMAL)
    with pytest.raises(ConfigError, match=r"preset: expected one of standard, fast, got a reference"):
        load_config(minimal, environment={})


@pytest.mark.parametrize("text", ["auto", "[{words: dog}]", "[{words: dog, invert: true}, {auto: true}]", "[]"])
def test_regions_are_a_list_or_auto_from_every_source(text: str, tmp_path: Path) -> None:
    plain = yaml.safe_load(load_config("configs/dog_to_tiger.yaml", [], {}).to_yaml())
    for base in ("auto", [{"words": "grass"}]):
        plain["edit"]["regions"] = base
        (tmp_path / "first.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
        by_override = load_config(tmp_path / "first.yaml", [f"edit.regions={text}"], {})
        by_variable = load_config(tmp_path / "first.yaml", [], {"TOKENFLOW_EDIT__REGIONS": text})
        (tmp_path / "own.yaml").write_text(f"extends: first.yaml\nedit: {{regions: {text}}}\n", encoding="utf-8")
        by_file = load_config(tmp_path / "own.yaml", [], {})
        assert by_override.edit.regions == by_variable.edit.regions == by_file.edit.regions
        (tmp_path / "again.yaml").write_text(by_file.to_yaml(), encoding="utf-8")
        assert load_config(tmp_path / "again.yaml", [], {}).edit.regions == by_file.edit.regions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{word: dog}]", r"edit\.regions\.0\.word: unknown; did you mean edit\.regions\.0\.words\?"),
        ("[{words: ' '}]", r"edit\.regions\.0\.words: expected words of clip\.prompt, got ' '"),
        ("[dog]", r"edit\.regions\.0: expected a section with mask, mask_frame, words"),
        ("dog", r"edit\.regions: expected auto, or a list of regions such as \[\{words: dog\}\], got 'dog'"),
        ("null", r"edit\.regions: expected a list of regions such as"),
        ("{words: dog}", r"write lists whole, such as edit\.regions=\[\{words: dog\}\]"),
    ],
)
def test_a_wrong_region_is_named_by_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("configs/dog_to_tiger.yaml", [f"edit.regions={text}"], {})
