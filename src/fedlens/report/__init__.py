"""What a run folder holds, for people to read: a page, figures, a comparison, a few lines in the terminal.

Knows: the files of a run folder, and how numbers, sentences and curves are drawn from them.
Does not know: how any of the numbers came about; it measures and computes none.
Offers: write_report, read_run, compare, render, render_summary, render_split; drawings in report.figures, with save.
"""

from fedlens.report.folder import Record, read_run
from fedlens.report.page import write_report
from fedlens.report.table import Comparison, compare, render
from fedlens.report.terminal import render_split, render_summary

__all__ = [
    "Comparison",
    "Record",
    "compare",
    "read_run",
    "render",
    "render_split",
    "render_summary",
    "write_report",
]
