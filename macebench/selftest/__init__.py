"""The self-test: what does each number see? Known damages at known strengths, and every metric's answer to them.

`run_selftest` measures (`macebench.selftest.study`), `write_selftest` writes what `macebench.selftest.schema`
documents. What each column is expected to do is declared in `macebench.selftest.expectations`.
"""

from macebench.selftest.inputs import SelftestConfig
from macebench.selftest.output import write_selftest
from macebench.selftest.study import plan_selftest, run_selftest

__all__ = ["SelftestConfig", "plan_selftest", "run_selftest", "write_selftest"]
