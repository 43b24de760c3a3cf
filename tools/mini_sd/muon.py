"""Muon (Jordan et al., 2024): steps along the orthogonalised momentum of each matrix, and Adam for all else.

Every direction of a matrix is learnt at the same pace, however rare it is in the gradient. A convolution is the matrix
of its outputs by all that a pixel's neighbourhood holds. Steps are scaled to the size of Adam's (Liu et al.,
arXiv 2502.16982), so that one learning rate serves both.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
NARROWEST = 16  # channels; a layer with fewer is left to Adam
ADAM_SHARE = 0.2  # root mean square of an Adam step, in learning rates


def orthogonalise(matrices: Tensor) -> Tensor:
    """Matrices of the same shape (b rows columns) and singular vectors, all their singular values about 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if tall else matrices  # b m n, m <= n
    wide = (wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    first, second, third = NEWTON_SCHULZ
    for _ in range(ITERATIONS):
        square = wide @ wide.mT  # b m m
        wide = first * wide + (second * square + third * square @ square) @ wide
    return (wide.mT if tall else wide).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Takes every parameter of a network and sorts them itself.

    All parameters of a kind are changed together, matrices of a shape as one batch: on a GPU, hundreds of small
    calls would take longer than the network.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        decays: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "decays": decays})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            self._step_matrices([parameter for parameter in parameters if _is_matrix(parameter)], group)
            self._step_others([parameter for parameter in parameters if not _is_matrix(parameter)], group)

    def _step_matrices(self, parameters: list[nn.Parameter], group: dict) -> None:
        if not parameters:
            return
        gradients = [parameter.grad for parameter in parameters]
        averages = [self._slot(parameter, "momentum") for parameter in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, averages, group["momentum"])
        for places in _by_shape(ahead):
            changes = orthogonalise(torch.stack([ahead[place].flatten(1) for place in places]))  # b rows columns
            scale = ADAM_SHARE * max(changes.shape[1:]) ** 0.5
            changed = [parameters[place] for place in places]
            shaped = [change.view_as(parameter) for change, parameter in zip(changes, changed, strict=True)]
            torch._foreach_sub_(changed, shaped, alpha=group["lr"] * scale)

    def _step_others(self, parameters: list[nn.Parameter], group: dict) -> None:
        if not parameters:
            return
        gradients = [parameter.grad for parameter in parameters]
        means, squares = ([self._slot(parameter, name) for parameter in parameters] for name in ("mean", "square"))
        taken = self.state[parameters[0]].get("step", 0) + 1
        for parameter in parameters:
            self.state[parameter]["step"] = torch.as_tensor(float(taken))
        first, second = group["decays"]
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - second)
        roots = torch._foreach_sqrt(torch._foreach_div(squares, 1 - second ** float(taken)))
        torch._foreach_add_(roots, 1e-8)
        changes = torch._foreach_div(torch._foreach_div(means, 1 - first ** float(taken)), roots)
        torch._foreach_sub_(parameters, changes, alpha=group["lr"])

    def _slot(self, parameter: nn.Parameter, name: str) -> Tensor:
        return self.state[parameter].setdefault(name, torch.zeros_like(parameter))


def _is_matrix(parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and min(parameter.shape[:2]) >= NARROWEST


def _by_shape(tensors: list[Tensor]) -> list[list[int]]:
    """The places of tensors that are matrices of one shape, per shape."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, tensor in enumerate(tensors):
        places.setdefault(tuple(tensor.flatten(1).shape), []).append(place)
    return list(places.values())
