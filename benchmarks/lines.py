"""The dashboard over lines that are late, narrow, lossy, frozen or dead: how far is the screen behind what is true?"""

import re
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from benchmarks.dashboard import COLUMNS, LLMVAL, ROWS, scratch, until
from benchmarks.line import Line
from benchmarks.report import Row
from benchmarks.terminal import Terminal
from llmval_tui.plans.records import active_plan
from llmval_tui.runs.store import Run, RunStore
from llmval_tui.telemetry.recording import load

LAG_S, KEY_S = 2.0, 0.2  # the bounds: the screen behind what is true, a key beyond the round trip
FROZEN_S = 30.0


def over(
    name: str, *, round_trip_s: float = 0.0, bits_per_s: float | None = None, loss: float = 0.0, seconds: float = 60
) -> Row:
    """How far the clock on the screen is behind, and how soon a key moves the cursor, while nothing runs."""
    line = Line(round_trip_s, bits_per_s / 8 if bits_per_s else None, loss)
    lags: list[float] = []
    keys: list[float] = []
    panes: list[float] = []
    with scratch() as folder, _dashboard(folder, line) as terminal:
        terminal.wait_for("1.2", 60)
        first_s = time.perf_counter() - terminal.started
        time.sleep(10)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            down = len(keys) % 2 == 0
            keys.append(terminal.press("j" if down else "k", None, "❯ 1.2" if down else "❯ 1.1", 60))
            for _ in range(8):
                time.sleep(0.25)
                lags.append(_behind_s(terminal))
        for _ in range(5):  # last: the keys j and k belong to the pane afterwards
            for key, shown in (("6", "▌6 Document▐"), ("1", "▌1 Run▐")):
                panes.append(terminal.press(key, 1, shown, 60))
                time.sleep(2)
    key_s = statistics.median(keys)
    lost = f"; {line.losses} packets lost" if loss else ""
    text = (
        f"list after {first_s:.1f} s; clock at most {max(lags):.1f} s behind; cursor moves after {key_s:.2f} s, "
        f"worst {max(keys):.2f} s of {len(keys)}; another pane is shown after at most {max(panes):.2f} s{lost}"
    )
    bound_s = round_trip_s + KEY_S
    bound = f"≤ {LAG_S:.0f} s behind" + ("" if bits_per_s else f", key ≤ {bound_s:.1f} s in the median")
    return Row(f"a line of {name}", text, bound, max(lags) <= LAG_S and (bits_per_s is not None or key_s <= bound_s))


def frozen() -> Row:
    """A line of 100 ms on which nothing passes for 30 s, while a run goes on and the operator types."""
    line = Line(0.1)
    with scratch(_LIST.format(seconds=70), "slow.py") as folder, _running(folder) as run:
        with _dashboard(folder, line) as terminal:
            terminal.wait_for("running", 60)
            time.sleep(5)
            line.freeze()
            cpu, began = terminal.own_cpu_seconds(), time.perf_counter()
            time.sleep(FROZEN_S / 2)
            terminal.send("j")
            time.sleep(FROZEN_S / 2)
            share = 100 * (terminal.own_cpu_seconds() - cpu) / (time.perf_counter() - began)
            queued, again = terminal.queued, time.perf_counter()
            line.go_on()
            terminal.wait_for(lambda _: _behind_s(terminal) <= LAG_S / 2 and "❯ 1.2" in terminal.text(), 60)
            caught_up = time.perf_counter() - again
        until(lambda: active_plan(folder) is None and not RunStore(folder).active(), 180)
        text, good = _not_noticed(run, folder)
    return Row(
        f"a line that is frozen for {FROZEN_S:.0f} s",
        f"up to date, and the key of that time done, {caught_up:.2f} s after it goes on; {queued / 1000:.1f} kB had "
        f"queued; {share:.1f} % of a core meanwhile; {text}",
        f"≤ {LAG_S:.0f} s; the run does not notice",
        caught_up <= LAG_S and good,
    )


def dead() -> Row:
    """A line that dies silently: the dashboard gets no signal. The run goes on, the next login shows it."""
    line = Line(0.1)
    with scratch(_LIST.format(seconds=40), "slow.py") as folder, _running(folder) as run:
        with _dashboard(folder, line) as terminal:
            terminal.wait_for("running", 60)
            line.freeze()
            cpu, began = terminal.own_cpu_seconds(), time.perf_counter()
            time.sleep(15)
            with _dashboard(folder, Line(0.1)) as login:
                login.wait_for("running", 60)
                shown = time.perf_counter() - login.started
            until(lambda: active_plan(folder) is None and not RunStore(folder).active(), 180)
            share = 100 * (terminal.own_cpu_seconds() - cpu) / (time.perf_counter() - began)
            queued, over = terminal.queued, time.perf_counter()
            terminal.hang_up()  # sshd has given up
            terminal.process.wait(60)
            ended = time.perf_counter() - over
        text, good = _not_noticed(run, folder)
    return Row(
        "a line that dies without a FIN",
        f"the next login shows the run after {shown:.2f} s; the old dashboard takes {share:.1f} % of a core, queues "
        f"{queued / 1000:.1f} kB, and ends {ended:.2f} s after sshd gives up; {text}",
        f"shown within {LAG_S:.0f} s; the run does not notice",
        shown <= LAG_S and good,
    )


_LIST = """## 1. Slow
- [ ] Run: `python slow.py --seconds {seconds} --output artifacts/slow.txt`
- [ ] Look at the cables
"""


@contextmanager
def _dashboard(folder: Path, line: Line) -> Iterator[Terminal]:
    argv = [*LLMVAL, "--workspace", str(folder), "--interval", "0.5"]
    with Terminal(argv, COLUMNS, ROWS, line=line) as terminal:
        yield terminal


@contextmanager
def _running(folder: Path) -> Iterator[Run]:
    """The first item of the list runs."""
    (folder / "artifacts").mkdir(exist_ok=True)
    with Terminal([*LLMVAL, "--workspace", str(folder), "run", "1.1", "--detach"], COLUMNS, ROWS) as starting:
        starting.process.wait(60)
    until((folder / "started").exists)
    yield RunStore(folder).runs()[0]


def _not_noticed(run: Run, folder: Path) -> tuple[str, bool]:
    """What the run's records say: its verdict, its tick, and the longest time between two samples."""
    verdict = run.verdict()
    ticked = "[x] Run" in (folder / "docs/llm_validation_checklist.md").read_text()
    gap = max((later.mono_ns - before.mono_ns for before, later in pairwise(load(run.telemetry))), default=0) / 1e9
    outcome = verdict.outcome.value if verdict else "not judged"
    text = f"the run: {outcome}, {'ticked' if ticked else 'not ticked'}, a sample at least every {gap:.1f} s"
    return text, outcome == "pass" and ticked and gap < 3


def _behind_s(terminal: Terminal) -> float:
    """How far the clock in the header is behind at least: it shows whole seconds."""
    shown = re.search(r"\d\d:\d\d:\d\d", terminal.text().splitlines()[0])
    now = time.time()
    at = time.strptime(
        time.strftime("%Y-%m-%d ", time.localtime(now)) + (shown[0] if shown else "00:00:00"), "%Y-%m-%d %H:%M:%S"
    )
    return max(0.0, now - time.mktime(at) - 1)
