import pytest

from tokenflow.errors import ConfigError, TokenflowWarning
from tokenflow.models.prompt_weights import Fragment, notice_unread_weights, parse_prompt, plain_text


def fragments(prompt: str) -> list[tuple[str, float]]:
    (section,) = parse_prompt(prompt)
    return [(fragment.text, pytest.approx(fragment.weight)) for fragment in section]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a dog on grass", [("a dog on grass", 1)]),
        ("a (tiger:1.3) on grass", [("a ", 1), ("tiger", 1.3), (" on grass", 1)]),
        ("a (tiger) here", [("a ", 1), ("tiger", 1.1), (" here", 1)]),
        ("((tiger))", [("tiger", 1.1**2)]),
        ("[grass]", [("grass", 1 / 1.1)]),
        ("(a [small] dog:1.2)", [("a ", 1.2), ("small", 1.2 / 1.1), (" dog", 1.2)]),
        ("((a:0.5) b:2)", [("a", 1.0), (" b", 2)]),
        (r"a dog \(on grass\) \[here\]", [("a dog (on grass) [here]", 1)]),
        ("time 12:30, a dog", [("time 12:30, a dog", 1)]),
        ("a dog :)", [("a dog :)", 1)]),
        ("a back\\slash", [("a back\\slash", 1)]),
        ("(:1.3) a", [(" a", 1)]),
        ("a dog ( ) on [ ] grass ( :1.3)", [("a dog   on   grass  ", 1)]),
        ("(a:1.2) (b:1.2)", [("a b", 1.2)]),
        ("(a:1.2) (b:1.3)", [("a ", 1.2), ("b", 1.3)]),
        ("( ) (b:1.3)", [("  b", 1.3)]),
        ("(a:1.) (b:.5)", [("a ", 1), ("b", 0.5)]),
        ("", [("", 1)]),
    ],
)
def test_brackets_weigh_words_as_in_a1111(prompt: str, expected: list[tuple[str, float]]) -> None:
    assert fragments(prompt) == expected


def test_a_bracket_that_stays_open_reaches_to_the_end_and_gives_a_notice() -> None:
    with pytest.warns(TokenflowWarning, match=r"a bracket of the prompt 'a \(tiger' stays open"):
        assert fragments("a (tiger") == [("a ", 1), ("tiger", 1.1)]


def test_break_separates_sections_and_only_as_a_word_of_its_own() -> None:
    assert parse_prompt("a dog BREAK grass") == ((Fragment("a dog"),), (Fragment("grass"),))
    assert len(parse_prompt("a BREAKFAST")) == 1


def test_break_inside_brackets_leaves_the_weight_to_both_sides(recwarn: pytest.WarningsRecorder) -> None:
    sections = parse_prompt("x (a BREAK b:1.3)")
    assert sections == ((Fragment("x "), Fragment("a", 1.3)), (Fragment("b", 1.3),))
    assert not recwarn.list


def test_a_lora_named_in_the_prompt_gives_a_notice() -> None:
    with pytest.warns(TokenflowWarning, match=r"'<lora:toy:0.8>' in the prompt is read as text .* set model.loras"):
        parse_prompt("a dog <lora:toy:0.8>")


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"is -1; expected 0 or more"):
        parse_prompt("a (dog:-1)")


def test_plain_text_gives_no_notice_of_its_own(recwarn: pytest.WarningsRecorder) -> None:
    assert plain_text("a (tiger BREAK on [grass") == "a tiger on grass"
    assert not recwarn.list


def test_plain_text_is_what_a_prompt_says() -> None:
    assert plain_text(r"a (tiger:1.3) on [grass] BREAK \(3d\)") == "a tiger on grass (3d)"


def test_a_family_that_does_not_weigh_gives_a_notice_only_where_something_is_weighed() -> None:
    with pytest.warns(TokenflowWarning, match=r"reads the brackets, weights and BREAK of the prompt 'a \(dog:2\)'"):
        notice_unread_weights("a (dog:2)")
    notice_unread_weights("a dog :)")
