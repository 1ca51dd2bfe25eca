"""Levels of log lines."""

import pytest

from llmval_tui.tui.data.log_level import CANDIDATES, Level, LevelReader, level_of

LINES = [
    ("2026-01-02 03:04:05 ERROR worker 2 gave up", Level.ERROR),
    ("[rank3]: RuntimeError: NCCL error in x.cpp", Level.ERROR),
    ("E0612 03:04:05.123456 77 agent.py:12] failed", Level.ERROR),
    ("r0 err | torch.OutOfMemoryError: CUDA out of memory", Level.ERROR),
    ("error: no such file", Level.ERROR),
    ("CRITICAL: the disk is full", Level.ERROR),
    ("x/__init__.py:130: RuntimeWarning: no Jax", Level.WARN),
    ("W0612 03:04:05.1 agent.py] late", Level.WARN),
    ("NCCL WARN Call to connect failed", Level.WARN),
    ("INFO 01-02 engine.py: ready", Level.INFO),
    ("DEBUG x", Level.DEBUG),
    ("0 errors, no warnings", Level.NONE),
    ("terror: a word", Level.NONE),
    ("1680 requests at 28 a second", Level.NONE),
]


@pytest.mark.parametrize(("text", "level"), LINES)
def test_a_line_says_its_level(text: str, level: Level) -> None:
    assert level_of(text) is level
    if level >= Level.WARN:
        assert any(word in f"\n{text}\n".encode() for word in CANDIDATES), "the quick look finds it, too"


def test_the_lines_of_a_traceback_have_the_level_of_their_first() -> None:
    reader = LevelReader()
    lines = [
        "start",
        "[rank0]: Traceback (most recent call last):",
        '[rank0]:   File "x.py", line 1, in f',
        "[rank0]: TimeoutError: no token",
        "after",
    ]
    assert [reader.read(line) for line in lines] == [
        (Level.NONE, False),
        (Level.ERROR, False),
        (Level.ERROR, True),
        (Level.ERROR, True),
        (Level.NONE, False),
    ]
