import pytest

from tokenflow.errors import ConfigError
from tokenflow.regions.words import split_words, without_words


@pytest.mark.parametrize(
    ("prompt", "words", "rest"),
    [
        ("a dog on grass, 3d style", "dog", "on grass, 3d style"),
        ("A Dog on grass", "dog", "on grass"),
        ("a dog and a dogfish", "dog", "and a dogfish"),
        ("the red car at night", "red car", "at night"),
        ("a dog and the cat on snow", "dog, cat", "and on snow"),
        ("grass, a dog", "dog", "grass"),
        ("a big  dog on grass", "big dog", "on grass"),
        ("a dog-like robot and a dog", "dog", "a dog-like robot and"),
        ("a C++ book", "C++", "book"),
        ("犬が走る", "犬", "が走る"),
    ],
)
def test_words_go_with_their_articles(prompt: str, words: str, rest: str) -> None:
    assert without_words(prompt, split_words(words)) == rest


def test_words_that_are_not_in_the_prompt_are_named() -> None:
    with pytest.raises(ConfigError, match="'cat' are not in the source prompt 'a dog on grass'"):
        without_words("a dog on grass", ["cat"])
