"""Indices in batches."""

import pytest

from tokenflow.diffusion.batches import image_batches


@pytest.mark.parametrize(
    ("size", "batch_size", "expected"),
    [
        ((128, 128), 8, [8, 2]),
        ((512, 512), 8, [2] * 5),
        ((704, 384), 3, [1] * 10),
        ((512, 256), 3, [3, 3, 3, 1]),
        ((4096, 4096), 8, [1] * 10),
    ],
)
def test_large_images_go_through_an_autoencoder_few_at_a_time(
    size: tuple[int, int], batch_size: int, expected: list[int]
) -> None:
    groups = list(image_batches(10, batch_size, size))
    assert [index for group in groups for index in group] == list(range(10))
    assert [len(group) for group in groups] == expected
