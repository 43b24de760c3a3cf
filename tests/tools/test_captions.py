import numpy as np

from tools.mini_sd.captions import PLACES, all_words, caption, sample_caption
from tools.mini_sd.words import KINDS, OBJECTS, Words, sample_words


def test_the_plain_sentence():
    assert caption(Words("dog")) == "a dog on grass, 3d style"
    assert caption(Words("elephant", "golden", "flat", "the sea", "night")) == (
        "a golden elephant on the sea at night, flat style"
    )
    assert caption(Words("elephant", background="a road")).startswith("an elephant on a road")


def test_a_companion_is_always_said():
    assert caption(Words("dog", companion="cat")) == "a dog and a cat on grass, 3d style"
    rng = np.random.default_rng(4)
    sentences = [sample_caption(Words("dog", companion="elephant"), rng) for _ in range(200)]
    assert all(" an elephant" in sentence for sentence in sentences)
    assert any(" with an elephant" in sentence for sentence in sentences)


def test_the_words_of_the_first_edition_are_still_known():
    assert len(OBJECTS) >= 40
    first = "tiger kitten rhinoceros automobile cab truck marble gold jade meadow beach ocean lunar brick dusk flat 3d"
    assert set(first.split()) <= set(all_words())


def test_every_word_is_drawn():
    rng = np.random.default_rng(0)
    drawn = [sample_words(rng) for _ in range(3000)]
    for place, known in enumerate(KINDS.values()):
        assert {words.indices[place] for words in drawn} == set(range(len(known)))


def test_a_material_and_a_night_are_never_left_unsaid():
    rng = np.random.default_rng(1)
    sentences = [sample_caption(Words("cat", "silver", light="night"), rng) for _ in range(300)]
    assert all("silver" in sentence for sentence in sentences)
    assert all("night" in sentence or "dark" in sentence for sentence in sentences)
    assert all("cat" in sentence or "kitten" in sentence for sentence in sentences)


def test_style_and_background_are_dropped_now_and_then():
    rng = np.random.default_rng(2)
    sentences = [sample_caption(Words("cat"), rng) for _ in range(500)]
    assert any("style" not in sentence and "3d" not in sentence for sentence in sentences)
    assert any(not any(place in sentence for place in PLACES["grass"]) for sentence in sentences)


def test_every_word_of_a_caption_is_known():
    rng = np.random.default_rng(3)
    known = set(all_words())
    for _ in range(500):
        assert set(sample_caption(sample_words(rng), rng).replace(",", "").split()) <= known
