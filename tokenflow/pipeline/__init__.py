"""The two faces of the core: invert, edit and generate in memory; run and preprocess from files to files."""

from tokenflow.pipeline.edit import Edited, edit
from tokenflow.pipeline.generate import generate
from tokenflow.pipeline.invert import invert
from tokenflow.pipeline.run import EditResult, PreprocessResult, open_result, preprocess, run

__all__ = [
    "EditResult",
    "Edited",
    "PreprocessResult",
    "edit",
    "generate",
    "invert",
    "open_result",
    "preprocess",
    "run",
]
