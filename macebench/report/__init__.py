"""The report of a run: one self-contained HTML page, and tables for the terminal.

`write_report` writes the page; `macebench.report.console.summary_tables` makes the tables.
"""

from macebench.report.page import write_report

__all__ = ["write_report"]
