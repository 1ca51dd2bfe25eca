"""A second program that saves a checklist while llmval ticks it.

`python -m tests.helpers.second_editor [SAVES]` prints how many of its edits were lost; the default is 3,000.
"""

import multiprocessing
import os
import random
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmval_tui.checklist.model import load
from llmval_tui.checklist.write_mark import set_mark
from llmval_tui.foundation.errors import Refused

WAYS = ("append", "atomic save", "save in place", "vim's backup")


def save(path: Path, way: str, number: int) -> None:
    """Write `edit <number>` into the checklist in one of the ways in which editors save."""
    line = f"edit {number}\n".encode()
    if way == "append" and number % 20:
        with path.open("ab") as file:
            file.write(line)
        return
    data = path.read_bytes().partition(b"edit")[0] + line
    if way == "vim's backup":  # `backupcopy=no`: the old file becomes the backup, for a moment there is none
        backup = path.with_name(path.name + "~")
        path.rename(backup)
        path.write_bytes(data)
        backup.unlink()
    elif way == "save in place":
        with path.open("wb") as file:
            file.write(data)
    else:
        temporary = path.with_name("editor.tmp")
        temporary.write_bytes(data)
        temporary.replace(path)


def _is_there(path: Path, number: int) -> bool:
    text = f"edit {number}\n"
    for _ in range(200):  # a tick may be swapped in and out at this moment
        kept = path.parent.glob("list.md.kept-*")
        if (path.exists() and text in path.read_text()) or any(text in file.read_text() for file in kept):
            return True
        time.sleep(0.005)
    return False


def _edit(path: Path, way: str, count: int, seed: int, lost: Any) -> None:
    chance = random.Random(seed)
    for number in range(count):
        save(path, way, number)
        time.sleep(chance.choice((0, 0, 0.001, 0.01)))
        lost.value += not _is_there(path, number)


def lost_edits(folder: Path, way: str, count: int, *, seed: int = 1) -> tuple[int, int]:
    """Save `count` times in another process while this one ticks and unticks; returns lost edits and ticks made."""
    path = folder / "list.md"
    path.write_text("# List\n\n- [ ] one\n- [ ] two\n\n")
    fork = multiprocessing.get_context("fork")
    lost = fork.Value("i", 0)
    editor = fork.Process(target=_edit, args=(path, way, count, seed, lost))
    key, ticks = load(path).steps[0].key, 0
    editor.start()
    while editor.is_alive():
        with suppress(Refused):  # the file was just cut off, or its program has it open
            set_mark(path, key, ticks % 2 == 0)
            ticks += 1
    editor.join()
    return int(lost.value), ticks


if __name__ == "__main__":
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_STATE_HOME"] = scratch
        for one in WAYS:
            lost, ticks = lost_edits(Path(scratch), one, total)
            print(f"{one}: {total} saves during {ticks} ticks, {lost} lost")
