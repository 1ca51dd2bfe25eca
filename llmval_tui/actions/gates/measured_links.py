"""The gate on the links between the GPUs of a node, from the newest measurement of their bandwidth in the workspace."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from llmval_tui.actions.command.runner_catalog import COLLECTIVE
from llmval_tui.runs.records import Gate, Outcome
from llmval_tui.runs.store import Run, RunStore

_NAME, _BOUND = "links, measured", "the newest run of collective_bandwidth.py on this host passed, with all its GPUs"


def newest_measurement(store: RunStore, host: str, *, trials: bool) -> Run | None:
    """The newest judged run of the runner on this host.

    Args:
        host: its name, as `run.json` has it.
        trials: whether runs under a preset count too, as in a demo.
    """
    for run in store.runs():
        ours = any(PurePosixPath(word).name == COLLECTIVE for one in run.intent.commands for word in one.argv)
        if ours and run.intent.host.get("name") == host and (trials or run.intent.preset is None) and run.verdict():
            return run
    return None


def judge_measured_links(measurement: Run, gpus: Sequence[int] | None, on_node: int) -> Gate:
    """Whether the measurement passed and had every GPU.

    Args:
        gpus: the chosen ones; None: all.
        on_node: the number of GPUs of the node.
    """
    verdict = measurement.verdict()
    assert verdict is not None  # `newest_measurement` takes judged runs only
    ranks, wanted = verdict.metrics.get("ranks"), on_node if gpus is None else len(gpus)
    figures = ", ".join(
        f"{words} {value:,.1f} GB/s"
        for name, words in (("all_reduce_busbw_gb_per_s", "all-reduce"), ("pair_min_gb_per_s", "slowest pair"))
        if (value := verdict.metrics.get(name)) is not None
    )
    measured = f"{figures or 'no figure'} (run {measurement.id})"
    if verdict.outcome is not Outcome.PASS:
        return Gate(_NAME, verdict.outcome, measured, _BOUND, verdict.summary)
    if ranks is None or ranks < wanted:
        reason = f"it measured {0 if ranks is None else int(ranks)} of {wanted} GPUs: run it with all of them"
        return Gate(_NAME, Outcome.INCONCLUSIVE, measured, _BOUND, reason)
    return Gate(_NAME, Outcome.PASS, measured, _BOUND)


def measurement_of(store: RunStore, params: dict[str, Any]) -> Run | None:
    """The run that a proposal named, if it is still there."""
    run_id = params.get("measured_links")
    return next((run for run in store.runs() if run.id == run_id), None) if run_id else None
