import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import save_tiny_model, tiny_model
from tokenflow.errors import ModelError, TokenflowWarning
from tokenflow.models.loading import load_model
from tokenflow.models.vocabulary import FILE, Vocabulary, read_vocabulary
from tools.mini_sd.captions import all_words, sample_caption
from tools.mini_sd.words import sample_words

SHIPPED = Path(__file__).parents[2] / "data" / "models" / "mini-sd"
CONTENT = {"object": ["dog", "fire engine"], "style": ["3d"], "words": ["a", "dog", "fire", "engine", "3d", "style"]}


def test_words_never_seen_are_found_in_order_and_once() -> None:
    known = Vocabulary(frozenset(CONTENT["words"]), {})
    assert known.unknown("A dinosaur, a Dog; 3D-style dinosaur? (robot)") == ["dinosaur", "robot"]
    assert known.unknown("") == []


def test_every_caption_of_the_grammar_is_known() -> None:
    rng = np.random.default_rng(0)
    known = Vocabulary(frozenset(all_words()), {})
    assert not [unknown for _ in range(500) if (unknown := known.unknown(sample_caption(sample_words(rng), rng)))]


def test_a_model_that_brings_a_vocabulary_warns_and_says_what_it_knows(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    (tmp_path / FILE).write_text(json.dumps(CONTENT))
    model = load_model(str(tmp_path), device="cpu")
    with pytest.warns(TokenflowWarning, match=r"'dinosaur'.*object: dog, fire engine; style: 3d"):
        model.condition("a dinosaur, 3d style")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.condition("a fire engine, 3d style")


def test_a_model_without_one_never_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_model().condition("a dinosaur")


def test_a_damaged_vocabulary_is_named(tmp_path: Path) -> None:
    assert read_vocabulary(tmp_path) is None
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ModelError, match=FILE):
        read_vocabulary(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"words": 3}', '{"a": 0, "b": 1}'])
def test_a_file_of_that_name_and_another_form_is_no_vocabulary(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    assert read_vocabulary(tmp_path) is None


def test_what_the_shipped_model_says_it_knows_it_knows() -> None:
    known = read_vocabulary(SHIPPED)
    assert known is not None
    assert not [unknown for words in known.kinds.values() for word in words if (unknown := known.unknown(word))]
