"""What a run shows its user: report.json, report.html and the contact sheet."""

from tokenflow.report.page import write_page
from tokenflow.report.provenance import reused_inversion, versions
from tokenflow.report.sheet import contact_sheet, marked, sheet_frames, side_by_side
from tokenflow.report.template import open_template

__all__ = [
    "contact_sheet",
    "marked",
    "open_template",
    "reused_inversion",
    "sheet_frames",
    "side_by_side",
    "versions",
    "write_page",
]
