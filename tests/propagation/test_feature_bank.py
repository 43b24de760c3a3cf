import torch

from tokenflow.propagation.feature_bank import FeatureBank


def kept(*keyframes: int) -> FeatureBank:
    """Each keyframe's tensor holds its own number."""
    return FeatureBank(keyframes, {"a": torch.tensor(keyframes).float().view(1, -1, 1).expand(2, -1, 3)})


def numbers(some: FeatureBank) -> list[float]:
    return some.tensors["a"][0, :, 0].tolist()


def test_some_are_taken_in_their_order_and_those_that_are_not_there_left_out() -> None:
    some = kept(3, 5, 9).select([9, 4, 3])
    assert some.keyframes == (3, 9)
    assert numbers(some) == [3, 9]
    assert some.tensors["a"].shape == (2, 2, 3)


def test_what_is_taken_holds_nothing_of_the_others() -> None:
    whole = kept(*range(100))
    assert whole.select([4]).tensors["a"].untyped_storage().nbytes() == 2 * 3 * 4


def test_joined_they_are_in_order() -> None:
    both = kept(3, 40).merge(kept(7, 9))
    assert both.keyframes == (3, 7, 9, 40)
    assert numbers(both) == [3, 7, 9, 40]


def test_joined_with_none_nothing_changes() -> None:
    none, some = FeatureBank((), {}), kept(1, 2)
    assert none.merge(some) is some
    assert some.merge(none) is some
    assert some.select([]).merge(some) is some
