"""The gradients of a loss, on a GPU by a recording of the work that is replayed.

A step of a small network is thousands of short kernels, and a processor launches them more slowly than a GPU runs them.
Recorded once as a CUDA graph, they run without it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

WARM_UPS = 3  # before a recording, as libraries choose their kernels in the first calls


@dataclass(frozen=True)
class Recording:
    """A graph, the tensors that it reads, and the loss that it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    loss: Tensor


class Gradients:
    """Fills the gradients of parameters.

    Args:
        loss_of: the loss of tensors, of which the first is on the device. It may draw noise there, and depends on
            nothing else that changes from step to step.
        parameters: what is trained.
        record: whether to record on a GPU; work that waits for the GPU within a step cannot be.
    """

    def __init__(self, loss_of: Callable[..., Tensor], parameters: list[nn.Parameter], record: bool = True) -> None:
        self.loss_of, self.parameters = loss_of, parameters
        self.record = record and parameters[0].is_cuda
        self._recordings: dict[tuple[torch.Size, ...], Recording] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The loss; on a GPU it is overwritten by the next call."""
        inputs = tuple(tensor.to(self.parameters[0].device) for tensor in inputs)
        shapes = tuple(tensor.shape for tensor in inputs)
        if self.record and shapes not in self._recordings:
            try:
                self._recordings[shapes] = self._recorded(inputs)
            except RuntimeError as error:
                print(f"not recorded: {str(error).splitlines()[0]}", flush=True)
                self.record = False
                torch.cuda.synchronize()
        return self._replay(self._recordings[shapes], inputs) if self.record else self._compute(inputs)

    def _compute(self, inputs: tuple[Tensor, ...]) -> Tensor:
        for parameter in self.parameters:
            parameter.grad = None
        loss = self.loss_of(*inputs)
        loss.backward()
        return loss.detach()

    def _recorded(self, inputs: tuple[Tensor, ...]) -> Recording:
        kept = [tensor.clone() for tensor in inputs]
        for parameter in self.parameters:  # all recordings add to the same gradients
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self.loss_of(*kept).backward()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            torch._foreach_zero_([parameter.grad for parameter in self.parameters])
            loss = self.loss_of(*kept)
            loss.backward()
        return Recording(graph, kept, loss.detach())

    def _replay(self, recording: Recording, inputs: tuple[Tensor, ...]) -> Tensor:
        for kept, tensor in zip(recording.inputs, inputs, strict=True):
            kept.copy_(tensor)
        recording.graph.replay()
        return recording.loss
