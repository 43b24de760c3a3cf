"""The two faces of the core: invert, edit and generate in memory; run and preprocess from files to files."""

from tokenflow.pipeline.editing import Edited, edit
from tokenflow.pipeline.generation import generate
from tokenflow.pipeline.inversion import invert
from tokenflow.pipeline.job import EditResult, PreprocessResult, open_result, preprocess, run
from tokenflow.pipeline.keyframes import Keyframes
from tokenflow.pipeline.reconstruction import Reconstruction, reconstruct
from tokenflow.pipeline.references import Reference
from tokenflow.pipeline.region_finding import find_regions
from tokenflow.pipeline.regions import Region
from tokenflow.pipeline.seeds import seed_sheet
from tokenflow.pipeline.trial import Trial, trial, trial_sheet

__all__ = [
    "EditResult",
    "Edited",
    "Keyframes",
    "PreprocessResult",
    "Reconstruction",
    "Reference",
    "Region",
    "Trial",
    "edit",
    "find_regions",
    "generate",
    "invert",
    "open_result",
    "preprocess",
    "reconstruct",
    "run",
    "seed_sheet",
    "trial",
    "trial_sheet",
]
