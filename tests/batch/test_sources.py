"""From the words of a command line to configurations."""

import shutil
from pathlib import Path

import pytest
import yaml

from tokenflow.batch.sources import read_configs
from tokenflow.config import load_config
from tokenflow.errors import BatchError, TokenflowWarning

SHIPPED = Path(__file__).parents[2] / "configs"


def write_yaml(path: Path, **settings: object) -> str:
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return str(path)


@pytest.fixture
def matrix(tmp_path: Path) -> str:
    return write_yaml(
        tmp_path / "matrix.yaml",
        clips={
            "dog": {"path": "dog.mp4", "prompt": "a ${words.animal} on grass", "words": {"animal": "dog"}},
            "cat": {"path": "cat.mp4", "prompt": "a cat", "frames": 8, "words": {"animal": "cat"}},
        },
        edits={
            "golden": {"prompt": "a golden ${words.animal}, ${words.style}"},
            "night": {"prompt": "${clip.prompt} at night", "mode": "sdedit", "words": {"style": "unused"}},
        },
        words={"style": "3d"},
        model={"path": "model"},
        edit={"steps": 7},
        output={"dir": "results"},
    )


def test_a_matrix_is_every_clip_with_every_edit(matrix: str) -> None:
    configs = read_configs([matrix])
    assert [(str(config.output.dir), config.clip.path.name, config.edit.prompt) for config in configs] == [
        ("results/dog-golden", "dog.mp4", "a golden dog, 3d"),
        ("results/dog-night", "dog.mp4", "a dog on grass at night"),
        ("results/cat-golden", "cat.mp4", "a golden cat, 3d"),
        ("results/cat-night", "cat.mp4", "a cat at night"),
    ]
    assert {config.edit.steps for config in configs} == {7}
    assert [config.edit.mode for config in configs] == ["pnp", "sdedit"] * 2
    assert [config.clip.frames for config in configs] == [None, None, 8, 8]


def test_overrides_apply_to_every_job_and_an_output_directory_is_split_among_them(matrix: str) -> None:
    configs = read_configs([matrix], ["edit.steps=3", "output.dir=elsewhere"])
    assert {config.edit.steps for config in configs} == {3}
    assert len({config.output.dir for config in configs}) == 4
    assert {str(config.output.dir.parent) for config in configs} == {"elsewhere"}


def test_the_shipped_matrix_is_valid() -> None:
    configs = read_configs([str(SHIPPED / "batch" / "three_clips.yaml")])
    assert len({config.output.dir for config in configs}) == len(configs) > 3
    assert all((SHIPPED.parent / config.clip.path).is_file() for config in configs)


def test_files_and_patterns_are_read_in_order(material: Path, tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_yaml(tmp_path / f"{name}.yaml", extends=str(material / "edit.yaml"), output={"dir": name})
    found = read_configs([str(material / "edit.yaml"), str(tmp_path / "*.yaml")])
    assert [str(config.output.dir) for config in found] == ["unset", "a", "b"]
    assert found[0] == load_config(material / "edit.yaml")


def test_a_folder_of_clips_gets_one_edit_each_and_other_files_are_skipped(material: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    shutil.copytree(material / "clips", folder)
    (folder / "notes.txt").touch()
    (folder / ".hidden.mp4").touch()
    with pytest.warns(
        TokenflowWarning, match=r"skipped in .*clips, as their extensions are not those of clips: notes\.txt$"
    ):
        configs = read_configs([str(folder)], ["output.dir=out"], edit=material / "edit.yaml")
    assert [str(config.output.dir) for config in configs] == [f"out/clip{index}" for index in range(5)]
    assert [config.clip.path for config in configs] == [folder / f"clip{index}.mp4" for index in range(5)]
    pattern = read_configs([str(folder / "clip[01].mp4")], ["output.dir=out"], edit=material / "edit.yaml")
    assert pattern == configs[:2]


def test_a_folder_of_images_is_a_clip_alone_and_among_others(material: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    (folder / "drawn").mkdir(parents=True)
    (folder / "drawn" / "1.png").touch()
    shutil.copy(material / "clips" / "clip0.mp4", folder)
    for source in (folder, folder / "drawn"):
        configs = read_configs([str(source)], ["output.dir=out"], edit=material / "edit.yaml")
        assert configs[-1].clip.path == folder / "drawn"
        assert str(configs[-1].output.dir) == "out/drawn"


def test_results_of_single_clips_go_where_those_of_a_matrix_go(material: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load((material / "edit.yaml").read_text())
    del settings["output"]
    edit = Path(write_yaml(tmp_path / "golden.yaml", **settings))
    (config,) = read_configs([str(material / "clips" / "clip1.mp4")], edit=edit)
    assert str(config.output.dir) == "outputs/golden/clip1"


def test_the_output_folder_of_an_edits_own_file_is_shared_with_a_notice(material: Path) -> None:
    with pytest.warns(TokenflowWarning, match=r"output\.dir of .*edit\.yaml is shared by its clips: .* in unset, such"):
        configs = read_configs([str(material / "clips")], edit=material / "edit.yaml")
    assert [str(config.output.dir) for config in configs] == [f"unset/clip{index}" for index in range(5)]


def test_a_mistake_shared_by_many_jobs_is_listed_once(tmp_path: Path) -> None:
    clips = {f"clip{index}": {"path": "x", "prompt": "x"} for index in range(20)}
    file = write_yaml(tmp_path / "matrix.yaml", clips=clips, edits={"a": {"prompt": "a"}}, outputt={"dir": "x"})
    with pytest.raises(BatchError, match=r"clip0 × a\) and 19 more: .*outputt") as error:
        read_configs([file])
    assert str(error.value).count("outputt") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"clips": {"dog": {"path": "dog.mp4", "prompt": "a dog"}}}, "expected `edits:` with a section"),
        ({"clips": ["dog.mp4"], "edits": {"a": {"prompt": "a"}}}, "expected `clips:` with a section"),
        ({"clips": {"dog": "dog.mp4"}, "edits": {"a": {"prompt": "a"}}}, "clips.dog is dog.mp4"),
        ({"clips": {"a/b": {"path": "x", "prompt": "x"}}, "edits": {"a": {"prompt": "a"}}}, "without /"),
        ({"clips": {"": {"path": "x", "prompt": "x"}}, "edits": {"a": {"prompt": "a"}}}, "expected one line"),
        ({"clips": {"dog": {"path": "x", "promt": "x"}}, "edits": {"a": {"prompt": "a"}}}, r"dog × a\): .*clip.promt"),
    ],
)
def test_a_mistake_in_a_matrix_is_located(content: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=message):
        read_configs([write_yaml(tmp_path / "matrix.yaml", model={"path": "m"}, **content)])


def test_mistakes_in_several_files_are_listed_together(tmp_path: Path) -> None:
    wrong = write_yaml(tmp_path / "wrong.yaml", clip={"path": "x"})
    message = r"nothing matches '.*\*'; .*clip\.prompt: missing.*; configuration file 'gone\.yaml' not found in /"
    with pytest.raises(BatchError, match=message):
        read_configs([str(tmp_path / "none*"), wrong, "gone.yaml"])


def test_sources_that_give_no_configuration_are_refused(material: Path, tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="give --edit"):
        read_configs([str(material / "clips")])
    with pytest.raises(BatchError, match="found no clips in"):
        read_configs([str(tmp_path)], edit=material / "edit.yaml")
    with pytest.raises(BatchError, match="nothing matches"):
        read_configs([str(tmp_path / "*.yaml")])
    with pytest.raises(BatchError, match=r"clip0\.mp4 is a clip; to edit it, give --edit"):
        read_configs([str(material / "clips" / "clip0.mp4")])
    with pytest.raises(BatchError, match=r"expected a list .*, got 'edit\.yaml'; put it in a list"):
        read_configs("edit.yaml")
    matrix = Path(write_yaml(tmp_path / "matrix.yaml", clips={}, edits={}))
    with pytest.raises(BatchError, match=r"matrix\.yaml is a matrix"):
        read_configs([str(material / "clips")], edit=matrix)
