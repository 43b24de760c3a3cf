"""What a run leaves for its user to see: report.json, report.html, the contact sheet. Knows no model."""

from tokenflow.profiling import Stopwatch
from tokenflow.report.page import write_page
from tokenflow.report.provenance import versions
from tokenflow.report.sheet import contact_sheet, sheet_frames, side_by_side
from tokenflow.report.template import open_template

__all__ = [
    "Stopwatch",
    "contact_sheet",
    "open_template",
    "sheet_frames",
    "side_by_side",
    "versions",
    "write_page",
]
