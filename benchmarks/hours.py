"""Long sessions: a log of one gigabyte, and a dashboard that has been open for eight hours."""

import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.dashboard import COLUMNS, LLMVAL, ROWS, scratch
from benchmarks.report import Row
from benchmarks.terminal import Terminal
from llmval_tui.runs.records import State
from tests.helpers import synthetic
from tests.helpers import tui_builder as builder

GIB = 1 << 30
CHECKLIST = "# Long\n\n## 1. Long\n- [ ] Run: `python long.py`\n"
RARE = "unicorn-7"


def write_log(path: Path, size: int) -> int:
    """Write a log of at least `size` bytes with numbered lines and one rare word near its beginning.

    Returns:
        The number of lines.
    """
    with path.open("wb", buffering=0) as file:
        number = written = 0
        while written < size:
            lines = [
                b"%09d INFO step finished, loss 2.31, 14960 tokens/s\n" % n for n in range(number, number + 20_000)
            ]
            if not number:
                lines[1000] = b"000001000 WARNING the %s was seen\n" % RARE.encode()
            number += len(lines)
            written += file.write(b"".join(lines))
        os.fsync(file.fileno())
    return number


def gigabyte_log() -> list[Row]:
    """With keys: open the Log pane, go to the beginning and the end, search back for a word at the beginning."""
    with tempfile.TemporaryDirectory(prefix="llmval-bench-") as name:
        workspace = builder.Workspace(Path(name), CHECKLIST)
        folder = workspace.run("1.1", run_id="20260102T030405Z-1.1-abcdef", state=State.FINISHED)
        count = write_log(folder / "logs" / "main.stdout.log", GIB)
        last = f"{count - 1:09d} INFO"
        argv = [*LLMVAL, "--workspace", name, "--checklist", str(workspace.checklist), "--readonly"]
        opened: list[float] = []
        ends: list[float] = []
        searches: list[float] = []
        spent: list[float] = []
        for _ in range(3):
            with Terminal(argv, COLUMNS, ROWS) as terminal:
                terminal.wait_for("1.1", 20)
                time.sleep(1.5)
                opened.append(terminal.press("2", None, last))
                terminal.press("g", None, "000000000 INFO")
                ends.append(terminal.press("G", None, last))
                terminal.press("/", None, "find")
                terminal.send(RARE)
                time.sleep(0.3)
                cpu = terminal.own_cpu_seconds()
                searches.append(terminal.press("\r", None, f"the {RARE} was seen", 60))
                spent.append(terminal.own_cpu_seconds() - cpu)
                memory = terminal.rss_bytes() / 1e6
    results = [
        ("opened", statistics.median(opened), "", 0.3),
        ("jump to its end", statistics.median(ends), "", 0.2),
        (
            "search through the whole file",
            statistics.median(searches),
            f"; {statistics.median(spent):.2f} s of CPU, {memory:.0f} MB resident",
            2.0,
        ),
    ]
    return [
        Row(f"1 GiB log: {name}", f"{seconds:.2f} s, median of 3{more}", f"≤ {bound} s", seconds <= bound)
        for name, seconds, more, bound in results
    ]


def eight_hours(hours: float = 8, speed: int = 100, gpus: int = 8) -> Row:
    """Memory while a recorded run with events, samples and a log replays; the slope is that of its second half."""
    seconds = round(hours * 3600)
    with scratch() as root:
        workspace = builder.Workspace(root / "recorded", CHECKLIST)
        folder = workspace.run("1.1", run_id="20260102T030405Z-1.1-abcdef", state=State.FINISHED)
        (folder / "events.jsonl").write_bytes(builder.load_events(seconds, seconds))
        with (folder / "telemetry.jsonl").open("wb") as file:
            start_ns = builder.T0 * builder.SECOND - synthetic.EPOCH_NS
            file.writelines(sample.to_line() for sample in synthetic.synthetic(gpus, seconds, 0, start_ns=start_ns))
        write_log(folder / "logs" / "main.stdout.log", 64 << 20)
        argv = [*LLMVAL, "--workspace", str(root), "--replay", str(folder)]
        points: list[tuple[float, float]] = []
        with Terminal(argv, COLUMNS, ROWS) as terminal:
            terminal.wait_for("REPLAY", 60)
            terminal.press("+" * 6, None, f"×{speed}")
            terminal.send("3")
            start, cpu = time.perf_counter(), terminal.own_cpu_seconds()
            while (played := (time.perf_counter() - start) * speed / 3600) < hours:
                time.sleep(1)
                points.append((played, terminal.rss_bytes() / 1e6))
                # Switch panes, as an operator would.
                terminal.send("1234"[len(points) // 10 % 4])
            share = 100 * (terminal.own_cpu_seconds() - cpu) / (time.perf_counter() - start)
    second_half = points[len(points) // 2 :]
    slope = statistics.linear_regression(*zip(*second_half, strict=True)).slope
    peak = max(memory for _, memory in points)
    text = (
        f"{points[5][1]:.0f} MB at first, at most {peak:.0f} MB, {slope * 1000:+.0f} kB per recorded hour in the "
        f"second half; {share:.0f} % of a core"
    )
    bound = "≤ 80 MB, flat (≤ 250 kB per hour: 2 MB in eight)"
    return Row(f"memory, {hours:g} h of replay at ×{speed}", text, bound, peak <= 80 and slope <= 0.25)
