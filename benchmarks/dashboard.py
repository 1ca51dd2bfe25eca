"""The dashboard as the operator feels it: first paint, keys under load, a lost connection, bytes per second."""

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

from benchmarks.report import Row
from benchmarks.terminal import Terminal
from llmval_tui.console.demo import prepare
from llmval_tui.plans.records import active_plan
from llmval_tui.runs import client
from llmval_tui.runs.store import RunStore
from tests.helpers import synthetic
from tests.helpers.trusted import trust

COLUMNS, ROWS = 160, 50
LLMVAL = [sys.executable, "-m", "llmval_tui"]

PROGRAMS = Path(__file__).with_name("programs")


@contextmanager
def scratch(checklist: str | None = None, *programs: str) -> Iterator[Path]:
    """A temporary workspace with copies of `programs`; at the end, everything that still runs there is stopped."""
    with tempfile.TemporaryDirectory(prefix="llmval-bench-") as name:
        folder = Path(name)
        prepare(folder)
        if checklist is not None:
            (folder / "docs/llm_validation_checklist.md").write_text(checklist)
            trust(folder / "docs/llm_validation_checklist.md")
        for program in programs:
            shutil.copy(PROGRAMS / program, folder)
        try:
            yield folder
        finally:
            stop_all(folder)


def stop_all(folder: Path) -> None:
    """Stop the plan and the runs of a workspace, and wait for their end."""
    plan = active_plan(folder)
    identity = plan.status().identity if plan else None
    for run in RunStore(folder).active():
        client.request_cancel(run, "end of benchmark")
        client.wait(run, 40)
    deadline = time.monotonic() + 20
    while identity is not None and identity.alive() and time.monotonic() < deadline:
        time.sleep(0.1)


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it did not hold within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the benchmark waited {seconds:.0f} s in vain")
        time.sleep(0.02)


def first_paint(repeats: int = 7) -> list[Row]:
    """Time from exec until the checklist is on the screen, and until the cursor has moved after a key pressed then."""
    painted, answered = [], []
    with scratch() as folder:
        for _ in range(repeats):
            with Terminal([*LLMVAL, "--workspace", str(folder)], COLUMNS, ROWS) as terminal:
                terminal.wait_for("1.2", 20)
                painted.append(time.perf_counter() - terminal.started)
                answered.append(painted[-1] + terminal.press("j", None, "❯ 1.2"))
    return [
        Row(
            "first paint of the dashboard, no GPU",
            f"median {statistics.median(painted):.2f} s, worst {max(painted):.2f} s of {repeats}",
            "< 0.8 s",
            statistics.median(painted) < 0.8,
        ),
        Row(
            "first key answered",
            f"{statistics.median(answered):.2f} s after exec, worst {max(answered):.2f} s; pressed once the list shows",
            None,
            True,
        ),
    ]


def key_latency(rate: int = 2000, bound_ms: float = 100, presses: int = 300, cpu_bound: float | None = None) -> Row:
    """Time from a key to its change on the screen, while the Log pane follows a run that logs `rate` lines/s.

    At the same moments, a program that only echoes runs on another pty: it shows the share of machine and harness.
    """
    checklist = f"## 1. Noise\n- [ ] Run: `python noisy.py {presses * 0.2 + 30:g} {rate}`\n"
    latencies: list[float] = []
    echoes: list[float] = []
    with scratch(checklist, "noisy.py", "echo.py") as folder:
        with Terminal([*LLMVAL, "--workspace", str(folder), "run", "1.1", "--detach"], COLUMNS, ROWS) as starting:
            starting.process.wait(30)
        until(lambda: any(run.logs() for run in RunStore(folder).runs()))
        log = RunStore(folder).runs()[0].logs_folder / "main.stdout.log"
        until(lambda: log.exists() and log.stat().st_size > 10_000)
        with (
            Terminal([*LLMVAL, "--workspace", str(folder)], COLUMNS, ROWS) as terminal,
            Terminal([sys.executable, str(folder / "echo.py")], 20, 3) as echo,
        ):
            terminal.wait_for("1.1", 20)
            terminal.send("2")  # the Log tab
            terminal.wait_for("of a run that logs a lot", 10)
            time.sleep(3)  # the start is measured by another benchmark
            cpu, start = terminal.own_cpu_seconds(), time.perf_counter()
            for count in range(presses):
                # Switch between two panes: every key repaints a whole pane. (Esc is unsuitable: it is also the first
                # byte of other keys, so Textual waits 100 ms for more.)
                key, shown = ("1", "▌1 Run▐") if count % 2 == 0 else ("2", "▌2 Log▐")
                latencies.append(terminal.press(key, 1, shown) * 1000)
                echoes.append(echo.press("ab"[count % 2], 0, f"[{'ab'[count % 2]}]") * 1000)
                time.sleep(max(0.0, start + 0.2 * (count + 1) - time.perf_counter()))
            span = time.perf_counter() - start
            share = 100 * (terminal.own_cpu_seconds() - cpu) / span
        stop_all(folder)
        written = log.read_bytes().splitlines()
    lost = sum(line != b"line %d of a run that logs a lot" % n for n, line in enumerate(written[:-1]))
    p99 = statistics.quantiles(latencies, n=100, method="inclusive")[98]
    echo_p99 = statistics.quantiles(echoes, n=100, method="inclusive")[98]
    text = (
        f"p50 {statistics.median(latencies):.0f} ms, p99 {p99:.0f} ms of {presses} keys in {span:.0f} s "
        f"(a bare echo: p99 {echo_p99:.0f} ms); {share:.0f} % of a core; "
        f"{lost or 'no'} line{'s' * (lost != 1)} lost of {len(written)}"
    )
    bound = f"p99 ≤ {bound_ms:.0f} ms, no line lost" + (f", ≤ {cpu_bound:.0f} % of a core" if cpu_bound else "")
    reached = p99 <= bound_ms and not lost and (cpu_bound is None or share <= cpu_bound)
    return Row(f"key to change on the screen, {rate} log lines/s", text, bound, reached)


def survival(how: str) -> Row:
    """Start a run in the dashboard and end the dashboard: is the run judged, and how soon does the next start show it?

    Args:
        how: "line" closes the pty, "kill" sends SIGKILL to the dashboard.
    """
    checklist = "## 1. Slow\n- [ ] Run: `python slow.py --output artifacts/slow.txt`\n"
    with scratch(checklist, "slow.py") as folder:
        (folder / "artifacts").mkdir(exist_ok=True)
        with Terminal([*LLMVAL, "--workspace", str(folder)], COLUMNS, ROWS) as terminal:
            terminal.wait_for("1.1", 20)
            time.sleep(0.5)
            terminal.send("c")
            terminal.wait_for("Complete 1.1?", 10)
            terminal.send("y")
            until((folder / "started").exists)
            if how == "line":
                terminal.hang_up()
            else:
                terminal.process.kill()
        # Nothing else supervises the workspace now; the next start must find the run.
        with Terminal([*LLMVAL, "--workspace", str(folder)], COLUMNS, ROWS) as again:
            again.wait_for("running", 20)
            seen = time.perf_counter() - again.started
        until(lambda: active_plan(folder) is None and not RunStore(folder).active())
        run = RunStore(folder).runs()[0]
        verdict = run.verdict()
        ticked = "[x]" in (folder / "docs/llm_validation_checklist.md").read_text()
    outcome = verdict.outcome.value if verdict else "not judged"
    names = {"line": "terminal closed mid-run", "kill": "dashboard SIGKILLed mid-run"}
    return Row(
        names[how],
        f"run {outcome}, {'ticked' if ticked else 'not ticked'}; next start shows it after {seen:.2f} s",
        "judged; shown within 1 s",
        outcome == "pass" and ticked and seen < 1.0,
    )


def load_over_the_line(
    hertz: int = 1,
    cpu_bound: float = 4,
    seconds: float = 30,
    gpus: int = 8,
    size: tuple[int, int] = (COLUMNS, ROWS),
    keys: str = "3",
    rate_bound: float = 3,
) -> Row:
    """Bytes per second to the terminal and CPU of the dashboard while it replays a recording with all charts moving.

    Args:
        hertz: samples per second of the recording, and refreshes of the dashboard.
        gpus: in the recording.
        size: of the terminal.
        keys: what is pressed first: `3` shows Telemetry, `z` gives it the whole screen.
        rate_bound: kB/s in the mean, at 1 Hz; twice as many in any second.
    """
    columns, rows = size
    with scratch() as folder:
        recording = folder / "telemetry.jsonl"
        synthetic.write(recording, gpus, 300, interval_s=1 / hertz)
        argv = [*LLMVAL, "--workspace", str(folder), "--replay", str(recording), "--interval", str(1 / hertz)]
        with Terminal(argv, columns, rows) as terminal:
            terminal.wait_for("1.2", 20)
            for key in keys:
                terminal.send(key)
                time.sleep(1)
            time.sleep(5)
            cpu, counts, start = terminal.own_cpu_seconds(), [terminal.bytes_read], time.perf_counter()
            while time.perf_counter() - start < seconds:
                time.sleep(1)
                counts.append(terminal.bytes_read)
            span = time.perf_counter() - start
            share = 100 * (terminal.own_cpu_seconds() - cpu) / span
            rate = (counts[-1] - counts[0]) / span / 1000
            most = max(later - before for before, later in pairwise(counts)) / 1000
            memory = terminal.rss_bytes() / 1e6
    bound = f"≤ {rate_bound:g} kB/s, ≤ {2 * rate_bound:g} in any second, " if hertz == 1 else ""
    return Row(
        f"{gpus} GPUs replayed, {columns}×{rows}, {hertz} Hz",
        f"{rate:.1f} kB/s, at most {most:.1f} in a second, {share:.1f} % of a core, {memory:.0f} MB",
        f"{bound}≤ {cpu_bound:.0f} % of a core",
        share <= cpu_bound and (hertz != 1 or (rate <= rate_bound and most <= 2 * rate_bound)),
    )


def largest_telemetry() -> Row:
    """Telemetry on the whole of a 200×60 screen: 24 charts of 8 GPUs and four of the host."""
    return load_over_the_line(size=(200, 60), keys="3z", rate_bound=5, cpu_bound=6)


DIALOGS = {"?": "Keys", ":": "Every action", "c": "Complete", "t": "by hand", "\x03": "Quit?"}


def _lacks(words: str, text: str) -> bool:
    return words not in text


def start_and_dialog(columns: int = 120, rows: int = 36) -> list[Row]:
    """Bytes of the start, and bytes per second while a dialog is open and nothing runs, for the worst of `DIALOGS`."""
    rates: dict[str, float] = {}
    with scratch() as folder, Terminal([*LLMVAL, "--workspace", str(folder)], columns, rows) as terminal:
        terminal.wait_for("1.2", 20)
        time.sleep(3)
        start = terminal.bytes_read
        for key, title in DIALOGS.items():
            terminal.send(key)
            terminal.wait_for(title, 10)
            time.sleep(1)
            count, began = terminal.bytes_read, time.perf_counter()
            time.sleep(10)
            rates[title] = (terminal.bytes_read - count) / (time.perf_counter() - began) / 1000
            terminal.send("\x1b")
            terminal.wait_for(partial(_lacks, title), 10)
    worst = max(rates, key=lambda title: rates[title])
    return [
        Row(f"start at {columns}×{rows}", f"{start / 1000:.1f} kB in the first 3 s", "≤ 8 kB", start <= 8000),
        Row(
            "a dialog is open, nothing runs",
            f"at most {rates[worst]:.2f} kB/s (“{worst}”, of {len(rates)} dialogs)",
            "≤ 0.2 kB/s",
            rates[worst] <= 0.2,
        ),
    ]
