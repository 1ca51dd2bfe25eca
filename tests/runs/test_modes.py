"""Modes of new files: a run folder is the owner's alone under every umask; all else follows the umask."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmval_tui.foundation.files import append_line, locked, write_json
from llmval_tui.runs.store import Run


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_modes(mask: int, umask: Callable[[int], int], make_run: Callable[..., Run], tmp_path: Path) -> None:
    umask(mask)
    run = make_run("true")
    assert _mode(run.folder) == 0o700
    assert _mode(run.folder / "run.json") == 0o666 & ~mask
    append_line(tmp_path / "ledger.jsonl", {})
    write_json(tmp_path / "verified.json", {})
    with locked(tmp_path / "hand.lock"):
        pass
    for name in ("ledger.jsonl", "verified.json", "hand.lock"):
        assert _mode(tmp_path / name) == 0o666 & ~mask
