from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tokenflow.propagation.keyframes import draw_keyframes, frame_pairs, neighbours, windows

counts = st.integers(1, 300)
intervals = st.integers(1, 40)


@given(counts, intervals, st.integers(0, 99), st.integers(0, 49))
def test_each_interval_has_one_keyframe(count: int, interval: int, seed: int, step: int) -> None:
    keyframes = draw_keyframes(count, interval, seed, step)
    assert len(keyframes) == -(-count // interval)
    assert keyframes == sorted(set(keyframes))
    assert keyframes[0] >= 0
    assert keyframes[-1] < count
    gaps = [after - before for before, after in pairwise(keyframes)]
    assert all(gap < 2 * interval for gap in gaps)
    assert keyframes[0] < interval
    assert count - keyframes[-1] <= interval


def test_keyframes_differ_from_step_to_step_and_not_from_run_to_run() -> None:
    drawn = [draw_keyframes(64, 8, 0, step) for step in range(10)]
    assert len({tuple(keyframes) for keyframes in drawn}) > 5
    assert drawn == [draw_keyframes(64, 8, 0, step) for step in range(10)]
    assert drawn != [draw_keyframes(64, 8, 1, step) for step in range(10)]
    assert draw_keyframes(64, 8, 1, 0) != draw_keyframes(64, 8, 0, 1)


@given(counts, intervals, st.integers(2, 12))
def test_windows_hold_every_frame_once_and_never_more_keyframes_than_allowed(
    count: int, interval: int, size: int
) -> None:
    keyframes = draw_keyframes(count, interval, 0, 0)
    cut = list(windows(keyframes, range(count), size))
    assert sorted(keyframe for window in cut for keyframe in window.keyframes) == keyframes
    assert sorted(frame for window in cut for frame in (*window.keyframes, *window.between)) == list(range(count))
    assert all(len(window.keyframes) + len(window.context) <= size for window in cut)
    done: set[int] = set()
    for window in cut:
        assert set(window.context) <= done
        done |= set(window.keyframes)
        assert set(window.kept) <= done


@given(counts, intervals, st.integers(2, 12))
def test_frames_of_a_window_have_their_keyframes_in_it_or_among_those_kept_before(
    count: int, interval: int, size: int
) -> None:
    keyframes = draw_keyframes(count, interval, 0, 0)
    kept: tuple[int, ...] = ()
    for window in windows(keyframes, range(count), size):
        known = sorted({*kept, *window.keyframes})
        for frame in window.between:
            here = [known[place] for place in neighbours(frame, known)]
            everywhere = [keyframes[place] for place in neighbours(frame, keyframes)]
            assert here == everywhere
        kept = window.kept
        assert set(window.kept) <= set(known)


def test_all_windows_of_a_long_clip_share_anchors_and_touch_the_keyframe_before() -> None:
    keyframes = list(range(0, 400, 10))
    anchors, *cut = windows(keyframes, range(400), 8)
    assert len(cut) == -(-(40 - 2) // 5)  # of 8 keyframes 2 are anchors and 1 is the one before
    assert anchors.keyframes == (100, 300)  # the middles of both halves
    assert all(set(anchors.keyframes) <= set(window.context) for window in cut)
    for before, after in pairwise(cut):
        assert before.keyframes[-1] in after.context


def test_a_window_without_room_for_it_does_not_see_the_keyframe_before() -> None:
    for size, context in ((2, 1), (3, 2)):
        anchors, *cut = windows(range(0, 400, 10), range(400), size)
        assert all(window.context == anchors.keyframes for window in cut)
        assert len(anchors.keyframes) == context


def test_every_keyframe_is_computed_once_however_long_the_clip_is() -> None:
    keyframes = list(range(0, 4000, 10))
    assert sum(len(window.keyframes) for window in windows(keyframes, range(4000), 8)) == len(keyframes)


def test_the_nearest_keyframes_lie_around_a_frame() -> None:
    keyframes = [3, 10, 20]
    assert neighbours(10, keyframes) == (1, 1)
    assert neighbours(12, keyframes) == (1, 2)
    assert neighbours(0, keyframes) == (0, 0)
    assert neighbours(25, keyframes) == (2, 2)


def test_pairs_are_those_of_each_frame_with_its_nearest_keyframes() -> None:
    assert frame_pairs(range(5), [1, 3]) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert frame_pairs(range(4), [3]) == [(0, 3), (1, 3), (2, 3)]
    assert frame_pairs(range(3), [0, 1, 2]) == []
