"""The two faces of the core: invert, edit and generate in memory; run and preprocess from files to files."""

from tokenflow.pipeline.editing import Edited, edit
from tokenflow.pipeline.generation import generate
from tokenflow.pipeline.inversion import invert
from tokenflow.pipeline.job import EditResult, PreprocessResult, open_result, preprocess, run
from tokenflow.pipeline.keyframes import Keyframes
from tokenflow.pipeline.references import Reference
from tokenflow.pipeline.regions import Region
from tokenflow.pipeline.seeds import seed_sheet
from tokenflow.pipeline.trial import Trial, trial, trial_sheet

__all__ = [
    "EditResult",
    "Edited",
    "Keyframes",
    "PreprocessResult",
    "Reference",
    "Region",
    "Trial",
    "edit",
    "generate",
    "invert",
    "open_result",
    "preprocess",
    "run",
    "seed_sheet",
    "trial",
    "trial_sheet",
]
