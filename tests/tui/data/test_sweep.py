"""The sweep's grid and the memory bar show files and events correctly, and report broken ones."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmval_tui.runs.records import Command, State
from llmval_tui.runs.store import Run
from llmval_tui.terminal.glyphs import ASCII, UNICODE, Glyphs
from llmval_tui.tui.data.run_follower import RunFollower, RunSnapshot
from llmval_tui.tui.data.sweep import parse_name, read_cell, sweep_folder
from llmval_tui.tui.panes.load import load_rows
from llmval_tui.tui.widgets.memory_rows import PARTS, bar_spans, memory_rows
from llmval_tui.tui.widgets.sweep_rows import merge_reasons
from tests.helpers.tui_builder import CELLS, MODEL, TO_DO, Workspace, cell, event, sweep_events, write_sweep


def sweep(
    workspace: Workspace, cells: Sequence[dict[str, Any]] = CELLS, events: bytes = b"", more: Sequence[str] = ()
) -> Path:
    folder = workspace.run("2.1", state=State.RUNNING)
    write_sweep(workspace.root / "power_results" / "x", cells, more)
    (folder / "events.jsonl").write_bytes(events)
    return folder


def shown(view: RunSnapshot, width: int = 78, glyphs: Glyphs = UNICODE) -> str:
    return "\n".join(row.plain for row in load_rows(view, width, 40, glyphs))


def test_the_grid_shows_every_state_with_its_word_and_reason(workspace: Workspace) -> None:
    folder = sweep(workspace, CELLS, sweep_events(), TO_DO)
    view = RunFollower(Run(folder)).snapshot()
    text = shown(view)
    for words in (
        "✓ valid", "⊘ invalid", "◌ no energy", "◇ refused", "✗ failed", "▸ running", "○ to do", "32 layers, d 5120",
        "batch 2", "batch 3", "batch 4", "12.5▲ / 1.56▲", "9,000 / 9,000 tok/s", "prefill: why fp16 3 is invalid",
        "prefill, trial 1 of 3", "619 W", "67%  6/9 cells",
    ):  # fmt: skip
        assert words in text, words
    assert "11▲" not in text  # the best only
    assert view.eta_s == 60.0  # 90 s were left 30 s ago
    # The trace is that of the cell at work: the cell before it drew 111 W.
    assert view.sweep is not None and min(v for v in view.sweep.power if v is not None) == 600.0
    assert shown(view, 60, ASCII).isascii()


def test_an_invalid_phase_has_no_tokens_per_joule(tmp_path: Path) -> None:
    record = cell("bf16", 2, "invalid", 99.0)
    record["phases"]["prefill"]["valid"] = False
    (tmp_path / "c.json").write_bytes(orjson.dumps(record))
    bare = parse_name(record["cell"])
    assert bare is not None
    phase = read_cell(tmp_path / "c.json", bare).phase("prefill")
    assert phase is not None and phase.tokens_per_joule is None and phase.tokens_per_s == 9000.0


def test_reasons_of_both_phases_are_merged() -> None:
    assert merge_reasons(["prefill: trials is 2", "prefill: hot", "decode: trials is 2", "no: such phase"]) == [
        "prefill, decode: trials is 2", "prefill: hot", "no: such phase",
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"kind": "power_cell", "status": "odd"}', b"null"])
def test_a_file_that_is_not_a_cell_gives_failed_with_a_reason(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.json").write_bytes(data)
    bare = parse_name(f"{MODEL}-b2-bf16")
    assert bare is not None
    found = read_cell(tmp_path / "c.json", bare)
    assert found.status == "failed" and "is not a cell's result" in found.reasons[0]


def test_a_rewritten_cell_is_read_again(workspace: Workspace) -> None:
    folder = sweep(workspace, [cell("bf16", 2, "failed")])
    follower = RunFollower(Run(folder))
    assert "failed" in shown(follower.snapshot())
    path = workspace.root / "power_results" / "x" / f"{MODEL}-b2-bf16.json"
    path.write_bytes(orjson.dumps(cell("bf16", 2, "valid", 10.0)))
    assert "✓ valid" in shown(follower.snapshot())
    (path.parent / "sweep.json").write_text("{")
    assert "is not a sweep's manifest" in str(follower.snapshot().sweep)


def test_the_folder_comes_from_the_command() -> None:
    argv = ["python", "runners/precision_power_sweep.py", "--output-dir", "a/b"]
    assert sweep_folder([Command("main", argv, "")], "/w") == Path("/w/a/b")
    assert sweep_folder([Command("main", [*argv[:2], "--output-dir=/c"], "")], "/w") == Path("/c")
    assert sweep_folder([Command("main", ["python", "other.py", "--output-dir", "a"], "")], "/w") is None


GIB = 2**30
sizes = st.none() | st.integers(0, 200 * GIB)


@given(values=st.lists(sizes, min_size=len(PARTS), max_size=len(PARTS)), width=st.integers(0, 120))
def test_the_bar_has_its_width_and_a_cell_for_each_part(values: list[int | None], width: int) -> None:
    parts = {part.metric: value for part, value in zip(PARTS, values, strict=True)}
    for glyphs in (UNICODE, ASCII):
        text = "".join(text for text, _ in bar_spans(parts, width, glyphs))
        assert len(text) == width
        there = [part for part, value in zip(PARTS, values, strict=True) if value]
        if width >= len(PARTS):
            order = re.sub(r"(.)\1*", r"\1", text.strip())
            assert order == "".join(p.ascii if glyphs.ascii else p.unicode for p in there)


def test_the_bar_is_to_scale() -> None:
    parts = {"memory_weights_bytes": 35.0, "memory_kv_bytes": 25.0, "memory_free_bytes": 40.0}
    assert [len(text) for text, _ in bar_spans(parts, 100, UNICODE)][:3] == [35, 25, 40]
    # Unreported parts stay blank: the parts here are half of the total.
    assert bar_spans(parts | {"memory_total_bytes": 200.0}, 100, UNICODE)[-1] == (" " * 50, "text")


def test_memory_comes_from_every_rank_and_other_metrics_from_the_first(workspace: Workspace) -> None:
    memory = {"memory_weights_bytes": 40 * GIB, "memory_kv_bytes": 12 * GIB, "memory_activation_bytes": None}
    folder = workspace.run("1.2")
    (folder / "events.jsonl").write_bytes(
        event("progress", {"done": 8192, "total": 32768, "unit": "tokens"}, 1)
        + event("metrics", memory | {"memory_free_bytes": 88 * GIB, "prefill_tokens_per_s": 31000.0}, 1)
        + event("metrics", memory | {"memory_free_bytes": 80 * GIB, "prefill_tokens_per_s": 1.0}, 1, rank=1)
    )
    view = RunFollower(Run(folder)).snapshot()
    text = shown(view, 100)
    assert "8,192/32,768 tokens" in text and "rank 0" in text and "rank 1" in text
    assert "██ weights 40.0 GiB" in text and "░░ free 80.0 to 88.0 GiB" in text and "activations n/a" in text
    assert (
        "Prefill tokens/s" in text and "31,000" in text and [m.name for m in view.metrics] == ["prefill_tokens_per_s"]
    )
    assert memory_rows((), 80, UNICODE) == []
