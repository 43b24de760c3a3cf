"""Counted operations: attention is counted on the CPU too."""

import torch
import torch.nn.functional as F

from benchmarks.sampling import count_flops


def test_attention_counts_as_two_matrix_products_with_and_without_a_bias() -> None:
    query, key = torch.rand(2, 3, 5, 16), torch.rand(2, 3, 7, 16)
    for bias in (None, torch.zeros(1, 1, 1, 7)):
        with torch.no_grad():
            result, count = count_flops(
                lambda bias=bias: F.scaled_dot_product_attention(query, key, key, attn_mask=bias)
            )
        assert result.shape == query.shape
        assert count == 2 * 2 * (2 * 3 * 5 * 7 * 16)  # a multiplication and an addition each
