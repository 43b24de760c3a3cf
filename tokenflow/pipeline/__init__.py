"""Both stages, wired from the parts: preprocess() and edit(), and what they give."""

from tokenflow.pipeline.editing import EditResult, edit, open_result
from tokenflow.pipeline.preprocessing import PreprocessResult, preprocess

__all__ = ["EditResult", "PreprocessResult", "edit", "open_result", "preprocess"]
