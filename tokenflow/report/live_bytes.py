"""Counts the bytes of tensors that are alive, also of fake ones, which have a shape and no memory."""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READ_VALUE = torch.ops.aten._local_scalar_dense.default
FIND = torch.ops.aten.nonzero.default


class LiveBytes(TorchDispatchMode):
    """Of all tensors that operations inside the block return; those made before it are left out.

    Code that asks for a value, which a fake tensor does not have, is told True or 0: images are finite, and no token is
    occluded. Code that asks where a fake tensor is not 0 is told everywhere.

    Attributes:
        now: bytes that are alive.
        peak: the most there were at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()
        self._before: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is READ_VALUE and isinstance(args[0], FakeTensor):
            return args[0].dtype == torch.bool or 0
        if func is FIND and isinstance(args[0], FakeTensor):
            result: Any = args[0].new_empty(args[0].numel(), args[0].ndim, dtype=torch.int64)
        else:
            result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self._leave_out(tensor.untyped_storage())
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _leave_out(self, storage: Any) -> None:
        """Count no view of a storage that was made before the block, as those of weights are."""
        key = StorageWeakRef(storage).cdata
        if key not in self._alive and key not in self._before:
            self._before.add(key)
            weakref.finalize(storage, self._before.discard, key)

    def _add(self, storage: Any) -> None:
        key, size = StorageWeakRef(storage).cdata, storage.nbytes()
        if key not in self._alive and key not in self._before:  # else a view
            self._alive.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size
