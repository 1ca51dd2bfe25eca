"""The judge of every result format that has figures of its own."""

from collections.abc import Callable

from llmval_tui.actions.api import Judged
from llmval_tui.actions.command.runner_catalog import (
    COLLECTIVE_SCHEMA,
    COMPILE_SCHEMA,
    LOAD_TEST_SCHEMA,
    LONG_CONTEXT_SCHEMA,
    POWER_SUMMARY_SCHEMA,
    POWER_SWEEP_SCHEMA,
    TRACE_SCHEMA,
)
from llmval_tui.actions.judges.collective_bandwidth import judge_collective_bandwidth
from llmval_tui.actions.judges.compile_study import judge_compile_study
from llmval_tui.actions.judges.load_test import judge_load_test
from llmval_tui.actions.judges.long_context import judge_long_context
from llmval_tui.actions.judges.power_summary import judge_power_summary
from llmval_tui.actions.judges.power_sweep import judge_power_sweep
from llmval_tui.actions.judges.trace import judge_trace
from llmval_tui.runs.records import Artifact
from llmval_tui.runs.store import Run

Judge = Callable[[Run, Artifact], Judged]
JUDGES: dict[str, Judge] = {
    LOAD_TEST_SCHEMA: judge_load_test,
    COLLECTIVE_SCHEMA: judge_collective_bandwidth,
    COMPILE_SCHEMA: judge_compile_study,
    LONG_CONTEXT_SCHEMA: judge_long_context,
    POWER_SWEEP_SCHEMA: judge_power_sweep,
    POWER_SUMMARY_SCHEMA: judge_power_summary,
    TRACE_SCHEMA: judge_trace,
}
