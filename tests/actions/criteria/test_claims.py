"""What an item demands in its own words."""

import re

import pytest

from llmval_tui.actions.criteria.claims import claims_of
from llmval_tui.actions.criteria.model import Criterion
from llmval_tui.actions.reading.model import WrittenCommand, WrittenScript
from llmval_tui.checklist.entries import Block
from llmval_tui.checklist.model import Step
from tests.helpers.phrasings import PHRASINGS


def step_of(text, *blocks):
    spans = tuple(re.findall(r"`([^`]+)`", text))
    return Step("1.1", "S", text, spans, False, 1, 1, 0, 0, {}, blocks)


def commands_of(text):
    return tuple(WrittenCommand(span, 1) for span in re.findall(r"`([^`]+)`", text) if span.startswith("./"))


def said(criterion: Criterion) -> str:
    """A criterion in the words of the table."""
    if criterion.unreadable:
        return "unreadable"
    kind = criterion.comparison
    if kind == "not contains" and criterion.metric:
        kind = "none"
    if criterion.which == "count":
        kind = f"count {kind}"
    elif kind == "==" and criterion.source == "stdout" and criterion.which == "all":
        kind = "all =="
    if criterion.source == "duration":
        kind = f"duration {kind}"
    bound = criterion.bound
    shown = f"{bound:.10g}" if isinstance(bound, float) else bound
    return " ".join(str(part) for part in (kind, shown, criterion.unit) if part is not None)


@pytest.mark.parametrize(("text", "expected"), PHRASINGS, ids=[text[:60] for text, _ in PHRASINGS])
def test_phrasing(text, expected):
    assert [said(one) for one in claims_of(step_of(text), commands_of(text), None)] == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nvidia-smi -L   # must show 8 GPUs", ["count == 8 GPUs"]),
        ("nvidia-smi -L   # list the GPUs", []),
        ("nproc  # 192", ["all == 192"]),
        ("nvidia-smi -L | wc -l   # 8", ["unreadable"]),
        ("systemctl is-active x   # → active", ["contains active"]),
        ("python bench.py   # p99 < 200 ms", ["< 200 ms"]),
    ],
)
def test_the_comment_of_a_fenced_line_demands_what_it_says(line, expected):
    blocks = (Block("paragraph", "Run", 1), Block("fence", line, 2, language="bash"))
    command = line.partition("#")[0].strip()
    commands = () if "|" in command else (WrittenCommand(command, 1),)
    script = None if commands else WrittenScript(line, 1, "bash", ())
    assert [said(one) for one in claims_of(step_of("Run", *blocks), commands, script)] == expected


@pytest.mark.parametrize(
    ("command", "proves"),
    [
        ("curl -s http://localhost:8000/health", False),
        ("curl -sf http://localhost:8000/health", True),
        ("wrk -t4 -d30s http://localhost:8000/", False),
        ("hey -n 10 http://localhost:8000/", False),
        ("mpirun -np 8 ./xhpl", False),
        ("pytest -q", True),
    ],
)
def test_an_exit_code_that_is_always_0_proves_nothing(command, proves):
    claims = claims_of(step_of(f"Run `{command}`"), (WrittenCommand(command, 1),), None)
    assert [said(one) for one in claims] == ([] if proves else ["unreadable"])
    claims = claims_of(step_of(f"Run `{command}` and expect 3 GB/s or more"), (WrittenCommand(command, 1),), None)
    assert [said(one) for one in claims] == [">= 3 GB/s"]
