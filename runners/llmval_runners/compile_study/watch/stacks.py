"""Stacks of running processes: read by py-spy from outside, else by faulthandler after a signal to the rank."""

import json
import linecache
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.watch.heartbeat import DUMP_SIGNAL
from llmval_runners.compile_study.watch.stall_location import is_generated
from llmval_runners.process.files import replace_bytes

PYTHON_S = 5.0  # for the Python frames of one process
NATIVE_S = 60.0  # py-spy takes this long to read libtorch's symbols from a slow disk
FAULTHANDLER_S = 2.0


def find_py_spy() -> str | None:
    """The executable of py-spy, on the path or beside this interpreter; None if it is not installed."""
    beside = Path(sys.executable).with_name("py-spy")
    return shutil.which("py-spy") or (str(beside) if os.access(beside, os.X_OK) else None)


def of_ranks(
    layout: Layout, beats: dict[int, dict[str, Any]], py_spy: str | None, number: int
) -> dict[int, dict[str, Any]]:
    """Read the Python stacks of all ranks at once: `{rank: {source, main, threads, notes}}`. Writes text files too."""
    with ThreadPoolExecutor(max(1, len(beats))) as pool:
        found = pool.map(lambda item: (item[0], _of_rank(layout, item[0], item[1], py_spy, number)), beats.items())
        return dict(found)


def _of_rank(layout: Layout, rank: int, beat: dict[str, Any], py_spy: str | None, number: int) -> dict[str, Any]:
    notes: list[str] = []
    if py_spy is None:
        notes.append("py-spy is not installed or not requested")
    else:
        threads, why = read_threads(py_spy, beat["pid"])
        if threads is not None:
            replace_bytes(layout.stacks / f"rank{rank}.stall{number}.py-spy.txt", _text(threads).encode())
            main = next(
                (thread["frames"] for thread in threads if thread["thread_id"] == beat["main_thread"]),
                threads[0]["frames"],
            )
            return {"source": "py-spy", "main": main, "threads": len(threads), "notes": notes}
        notes.append(f"py-spy failed: {why}")
    frames, count = _faulthandler(layout, rank, beat)
    if frames:
        return {"source": "faulthandler", "main": frames, "threads": count, "notes": notes}
    notes.append("the rank did not answer the signal: its process is stopped, or its main thread stays in C code")
    return {"source": "heartbeat", "main": beat["where"], "threads": None, "notes": notes}


def of_workers(layout: Layout, workers: list[dict[str, Any]], py_spy: str | None, number: int) -> dict[int, str]:
    """Write the Python stacks of compile workers. Returns for each pid the file, or the reason why there is none."""
    found = {}
    for worker in workers:
        if py_spy is None or worker["compiler"]:
            found[worker["pid"]] = (
                "not Python" if worker["compiler"] else "py-spy is missing, and a worker answers no signal"
            )
            continue
        threads, why = read_threads(py_spy, worker["pid"], stopped=worker["state"] in "Tt")
        path = layout.stacks / f"rank{worker['rank']}.worker{worker['pid']}.stall{number}.py-spy.txt"
        if threads is not None:
            replace_bytes(path, _text(threads).encode())
        found[worker["pid"]] = f"stacks/{path.name}" if threads is not None else f"py-spy failed: {why}"
    return found


def native(layout: Layout, pid: int, name: str, py_spy: str, deadline: float) -> str:
    """Write Python and C frames into a file. Returns a sentence for the notes. Slow, so it runs after the verdict."""
    limit = min(NATIVE_S, deadline - time.monotonic())
    if limit <= 0:
        return f"{name}: no time was left for native frames"
    try:
        done = subprocess.run(
            [py_spy, "dump", "--native", "--pid", str(pid)], capture_output=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{name}: py-spy --native did not finish in {limit:.0f} s"
    if done.returncode:
        return f"{name}: py-spy --native failed: {_last_line(done.stderr)}"
    path = layout.stacks / f"{name}.native.txt"
    replace_bytes(path, done.stdout)
    return f"{name}: stacks/{path.name}"


def read_threads(py_spy: str, pid: int, *, stopped: bool = False) -> tuple[list[dict[str, Any]] | None, str]:
    """The threads of a process, or None and the reason.

    A stopped process is read without ptrace, which would wait until the process continues.
    """
    command = [py_spy, "dump", "--json", "--full-filenames", "--pid", str(pid), *(["--nonblocking"] if stopped else [])]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PYTHON_S, check=False)
    except subprocess.TimeoutExpired:
        return None, f"it did not finish in {PYTHON_S:g} s"
    except OSError as error:
        return None, str(error)
    if done.returncode:
        return None, _last_line(done.stderr)
    threads = json.loads(done.stdout)
    for thread in threads:
        thread["frames"] = [_with_text(f["name"], f["filename"], f["line"]) for f in thread["frames"]]
    return threads or None, "no threads"


def _with_text(function: str, file: str, line: int) -> dict[str, Any]:
    """A frame; in code that Inductor wrote also the text of its line, which names the operation that it calls."""
    frame = {"function": function, "file": file, "line": line}
    text = linecache.getline(file, line).strip() if is_generated(file) else ""
    return frame | ({"text": text[:200]} if text else {})


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "it gave no reason"


def _text(threads: list[dict[str, Any]]) -> str:
    lines = []
    for thread in threads:
        lines.append(
            f"Thread {thread['thread_id']:#x} {thread.get('thread_name') or ''} "
            f"({'active' if thread.get('active') else 'idle'})"
        )
        lines += [f"    {f['function']} ({f['file']}:{f['line']})" for f in thread["frames"]]
    return "\n".join(lines) + "\n"


_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)")
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')


def parse_faulthandler(text: str) -> dict[int, list[dict[str, Any]]]:
    """Parse faulthandler's output into frames by thread, innermost first."""
    threads: dict[int, list[dict[str, Any]]] = {}
    frames: list[dict[str, Any]] = []
    for line in text.splitlines():
        if match := _THREAD.match(line):
            frames = threads[int(match[1], 16)] = []
        elif match := _FRAME.match(line):
            frames.append(_with_text(match[3], match[1], int(match[2])))
    return threads


def _faulthandler(layout: Layout, rank: int, beat: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    path = layout.faults(rank)
    before = path.stat().st_size if path.exists() else 0
    try:
        os.kill(beat["pid"], DUMP_SIGNAL)
    except ProcessLookupError:
        return [], 0
    deadline, size = time.monotonic() + FAULTHANDLER_S, before
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = path.stat().st_size
        if now > before and now == size:
            break
        size = now
    threads = parse_faulthandler(path.read_bytes()[before:].decode("utf-8", "replace"))
    return threads.get(beat["main_thread"], []), len(threads)
