"""Compiled blocks of a network (torch.compile), around attention that is replaced from call to call.

What replaces attention and forwards are other objects in every call (models/patching.py), and code that was compiled
with one of them would be compiled again for the next. So attention modules run outside of the compiled code, which does
not look at their processors, and a block whose forward is replaced runs what replaces it.
"""

from collections.abc import Iterable
from types import MethodType
from typing import Any

import torch
from torch import nn

MAX_VERSIONS = 64
"""Of a block's code: one per combination of widths in a network, and of batch sizes until they are found to vary."""


def compile_blocks(blocks: Iterable[nn.Module], backend: str = "inductor") -> None:
    """Compile the forwards of blocks when they are first called; each stays the module that it was.

    Args:
        blocks: modules in which nothing but attention is replaced or has hooks.
        backend: of torch.compile.
    """
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, MAX_VERSIONS)
    for block in blocks:
        for module in block.modules():
            if hasattr(module, "set_processor"):
                vars(module)["forward"] = MethodType(_uncompiled, module)
        vars(block)["forward"] = torch.compile(block.forward, backend=backend)


@torch.compiler.disable
def _uncompiled(module: Any, *arguments: Any, **named: Any) -> Any:
    """The forward of a module's class. It is one function for all, so that blocks of the same widths share code."""
    return type(module).forward(module, *arguments, **named)
