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


def orthogonalise(matrix: Tensor) -> Tensor:
    """A matrix of the same shape (rows columns) and singular vectors, all its singular values about 1."""
    wide = matrix.T if len(matrix) > matrix.shape[1] else matrix
    wide = (wide / (wide.norm() + 1e-7)).bfloat16()
    first, second, third = NEWTON_SCHULZ
    for _ in range(ITERATIONS):
        square = wide @ wide.T
        wide = first * wide + (second * square + third * square @ square) @ wide
    return (wide.T if len(matrix) > matrix.shape[1] else wide).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Takes every parameter of a network and sorts them itself."""

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
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                change = self._of_matrix if _is_matrix(parameter) else self._of_adam
                parameter.sub_(change(parameter, group), alpha=group["lr"])

    def _of_matrix(self, parameter: nn.Parameter, group: dict) -> Tensor:
        state = self.state[parameter]
        average = state.setdefault("momentum", torch.zeros_like(parameter))
        average.lerp_(parameter.grad, 1 - group["momentum"])
        ahead = parameter.grad.lerp(average, group["momentum"]).flatten(1)
        return (orthogonalise(ahead) * (ADAM_SHARE * max(ahead.shape) ** 0.5)).view_as(parameter)

    def _of_adam(self, parameter: nn.Parameter, group: dict) -> Tensor:
        state = self.state[parameter]
        if not state:
            state |= {"step": torch.zeros(()), "mean": torch.zeros_like(parameter)}
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["decays"]
        state["mean"].lerp_(parameter.grad, 1 - first)
        state["square"].lerp_(parameter.grad.square(), 1 - second)
        mean = state["mean"] / (1 - first ** float(state["step"]))
        square = state["square"] / (1 - second ** float(state["step"]))
        return mean / (square.sqrt() + 1e-8)


def _is_matrix(parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and min(parameter.shape[:2]) >= NARROWEST
