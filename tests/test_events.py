from collections.abc import Iterator

import pytest

from tokenflow.events import progress_bar, track


def test_a_listener_hears_the_beginning_and_every_unit() -> None:
    heard: list[tuple[str, int, int | None]] = []
    items = list(track("abc", "edit", unit="step", progress=lambda *told: heard.append(told), total=5, initial=2))
    assert items == ["a", "b", "c"]
    assert heard == [("edit", 2, 5), ("edit", 3, 5), ("edit", 4, 5), ("edit", 5, 5)]


def test_groups_advance_by_their_size() -> None:
    heard: list[tuple[str, int, int | None]] = []
    with progress_bar("decode", 7, "frame", lambda *told: heard.append(told)) as advance:
        advance(4)
        advance(3)
    assert heard == [("decode", 0, 7), ("decode", 4, 7), ("decode", 7, 7)]


def test_what_a_listener_raises_stops_the_loop_and_closes_it() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    def enough(_: str, done: int, __: int | None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(track(items(), "edit", unit="step", progress=enough))
    assert closed == [True]


@pytest.mark.parametrize(("progress", "drawn"), [(True, True), (False, False)])
def test_without_a_listener_bars_are_drawn_or_not(
    progress: bool, drawn: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(track(range(3), "invert", unit="step", progress=progress, total=3)) == [0, 1, 2]
    assert ("invert" in capsys.readouterr().err) is drawn
