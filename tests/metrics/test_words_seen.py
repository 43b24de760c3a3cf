"""Whether the classifier sees the prompt, on scenes drawn here, and which classifier is taken."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tokenflow.errors import ModelError, ModelNotFoundError
from tokenflow.metrics import WordsSeen, find_classifier
from tokenflow.metrics.words_seen import words_in
from tools.mini_sd.scene import Camera, Pose, Scene, render
from tools.mini_sd.words import KINDS, Words

MODELS = Path(__file__).parents[2] / "data" / "models"
CLASSIFIER = str(MODELS / "mini-classifier")


def drawn(words: Words) -> np.ndarray:
    picture = render(Scene(words, Pose(0.1, 0.33, 0.65), Camera(), 1)).picture
    return (picture * 255).round().astype(np.uint8)


DOG, TIGER, CAR = (drawn(Words(name)) for name in ("dog", "tiger", "car"))


def measured(source_prompt: str, prompt: str, source: np.ndarray, edit: np.ndarray) -> dict[str, list[float]]:
    seen = WordsSeen(CLASSIFIER, source_prompt, prompt)
    seen.add(source, edit)
    return seen.over_time.get("words", {})


def test_the_words_of_the_prompt_are_seen_in_a_good_edit_alone() -> None:
    prompts = "a dog on grass, 3d style", "a tiger on grass, 3d style"
    assert measured(*prompts, DOG, TIGER) == {"source": [0.0], "edit": [1.0]}
    assert measured(*prompts, DOG, DOG) == {"source": [0.0], "edit": [0.0]}


def test_a_kept_word_counts_only_where_the_source_shows_it() -> None:
    tiger = drawn(Words("tiger", background="snow"))
    lost = measured("a tiger on grass", "a tiger on snow", TIGER, drawn(Words("car", background="snow")))
    assert lost["edit"] == [0.0]
    assert measured("a tiger on grass", "a tiger on snow", TIGER, tiger)["edit"] == [1.0]
    assert measured("a bus on grass", "a bus on snow", TIGER, tiger)["edit"] == [1.0]  # it sees no bus in the source


def test_an_edit_of_words_it_does_not_know_is_not_judged() -> None:
    assert measured("a wolf on grass", "a robot on grass", DOG, TIGER) == {}


@pytest.mark.parametrize(("prompt", "keeps"), [("a golden dog on grass", True), ("a tiger on grass", False)])
def test_it_knows_whether_the_object_stays(prompt: str, keeps: bool) -> None:
    assert WordsSeen(CLASSIFIER, "a dog on grass", prompt).keeps_object == keeps


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("A police car on the road at night", {"object": "police car", "background": "a road", "light": "night"}),
        ("a golden dog, 3d style", {"object": "dog", "material": "golden", "style": "3d"}),
        ("a carpet by the seaside", {}),
    ],
)
def test_the_longest_whole_words_are_found_without_their_articles(prompt: str, words: dict[str, str]) -> None:
    assert words_in(prompt, KINDS) == words


def test_the_classifier_beside_a_model_is_taken_if_it_knows_all_its_words(tmp_path: Path) -> None:
    shutil.copytree(CLASSIFIER, tmp_path / "judge")
    (tmp_path / "model").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel"}))
    assert find_classifier(str(tmp_path / "model"), {"object": ("dog", "cat")}) == str(tmp_path / "judge")
    assert find_classifier(str(tmp_path / "model"), {"object": ("dog", "wolf")}) is None
    assert find_classifier(str(tmp_path / "model"), {"weather": ("rain",)}) is None


def test_a_folder_without_a_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no classifier at"):
        WordsSeen(str(tmp_path / "missing"), "a dog", "a cat")
    with pytest.raises(ModelError, match="as a classifier"):
        WordsSeen(str(tmp_path), "a dog", "a cat")
