import torch
from torch import Tensor

from tokenflow.propagation.feature_bank import FeatureBank, KeyframeFeatures


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


def storage_bytes(tensors: dict[str, Tensor]) -> int:
    """Of all memory that some tensors keep alive."""
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())


def test_of_features_only_the_branches_that_are_read_stay_in_memory() -> None:
    features = torch.randn(2, 3, 16, 8)
    for branches in (1, 2):
        gathered = KeyframeFeatures(branches)
        gathered.add_output("site", features)
        assert torch.equal(gathered.outputs["site"], features[-branches:])
        assert storage_bytes(gathered.outputs) == branches * features[0].nbytes


def test_of_memories_only_those_of_keyframes_that_are_attended_to_later_stay() -> None:
    memory = torch.randn(2, 5, 16, 8)
    gathered = KeyframeFeatures(0, attended=[0, 3])
    gathered.add_memory("keys", memory)
    assert torch.equal(gathered.memories["keys"], memory[:, [0, 3]])
    assert storage_bytes(gathered.memories) == memory.nbytes * 2 // 5


def test_what_no_later_pass_reads_is_not_kept() -> None:
    gathered = KeyframeFeatures(0)
    gathered.add_output("site", torch.randn(2, 3, 16, 8))
    gathered.add_memory("keys", torch.randn(2, 3, 16, 8))
    assert not gathered.outputs
    assert not gathered.memories
