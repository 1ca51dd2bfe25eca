"""The slowdown of a run by a dashboard that watches it: output tokens/s of a saturated load test with and without.

One engine and one window are cut into pairs of slices, one with a dashboard and one without, in random order: an order
that is always the same turns a drift of the engine into a bias. In a slice “with”, a dashboard watches the run on its
own terminal, with its own telemetry recorder. In a slice “without”, the idle supervisor is the only process of llmval.
Two separate load tests would differ by more than 0.5 % anyway, because of engine start and GPU temperature.

The bound is reached if the 95 % interval of the mean ratio holds 1 and does not go below `BOUND`. If it is too wide to
tell, the row says so, and more `--pairs` narrow it. An interval above 1 is a bias of so much and no pass, because a
dashboard makes no engine faster; one between `BOUND` and 1 is the cost, and within the bound.

    python -m benchmarks.watching --nproc 2 --model llama-3.1-8b --target-qps 300 --pairs 8 --seconds 8 --json w.json

needs no installation, only a PYTHONPATH with the repository, `runners` and the packages of the dashboard.
"""

import argparse
import json
import math
import random
import statistics
import sys
import time
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.dashboard import COLUMNS, LLMVAL, ROWS, scratch, until
from benchmarks.report import Row
from benchmarks.terminal import Terminal
from llmval_tui.checklist.model import load
from llmval_tui.foundation.files import read_json, read_lines
from llmval_tui.foundation.paths import bundled
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs import client
from llmval_tui.runs.create import create_run, new_run_id
from llmval_tui.runs.inventory import gpu_inventory
from llmval_tui.runs.records import Artifact, Command, Intent, StepRef
from llmval_tui.runs.store import Run, RunStore

BOUND = 0.995
# Student's t for 95 % by degrees of freedom from 1 on; beyond the table its next value, which is a little too wide.
_T = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12)
_T_LATER = 2.11
SETTLE_S = 1.5  # after the first paint of a dashboard, and after its end
START_S = 300.0  # longest wait for the engine
SAVE_S = 180.0  # longest wait for the result, which has the time of every token
CHECKLIST = "## 1. Load\n- [ ] Saturate the engine\n"
Slice: TypeAlias = tuple[float, float]  # start and end, in seconds of the monotonic clock
Pair: TypeAlias = tuple[Slice, Slice]  # with the dashboard, and without, whichever came first


def watching(
    nproc: int = 1,
    model: str = "tiny",
    target_qps: float = 60.0,
    pairs: int = 6,
    seconds: float = 6.0,
    ramp: float = 6.0,
    flags: tuple[str, ...] = (),
) -> Row:
    """The mean ratio of output tokens/s with a dashboard to without, over `pairs` pairs, with its 95 % interval."""
    longest_s = ramp + 2 * pairs * (seconds + 2 * SETTLE_S + 2)
    argv = [
        "--model",
        model,
        "--target-qps",
        f"{target_qps:g}",
        "--duration",
        f"{3 * longest_s:.0f}",
        "--warmup",
        "2",
        *flags,
    ]
    with scratch(CHECKLIST) as folder:
        run = _start(folder, nproc, argv)
        slices = _pairs(run, folder, pairs, seconds, ramp)
        client.request_cancel(run, "end of benchmark")
        client.wait(run, SAVE_S)
        return _row(run, folder, slices, nproc, model)


def _start(folder: Path, nproc: int, argv: list[str]) -> Run:
    """Start the load test as a run of the only step, without a telemetry recorder: each dashboard brings its own."""
    runners = bundled("runners")
    logs = ["--logs", "{run}/logs", "--label", "main", "--exit-codes", "{run}/ranks.main.json"]
    script = [f"--nproc_per_node={nproc}", str(runners / "inference_server_load_test.py"), *argv]
    output = ["--output-json", "artifacts/watched.json"]
    launch = [sys.executable, str(runners / "llmval_runners" / "process" / "launch.py"), *logs, "--", *script, *output]
    checklist = Path("docs/llm_validation_checklist.md")
    step = load(folder / checklist).steps[0]
    intent = Intent(
        v=1,
        run_id=new_run_id(step.number),
        action="command",
        step=StepRef(step.number, *step.key, checklist=str(checklist)),
        commands=[Command("main", launch, " ".join(["torchrun", *script]), nproc=nproc)],
        cwd=str(folder),
        created_utc=utc_iso(),
        artifacts=[Artifact("artifacts/watched.json", "load_test")],
        tick=False,
        telemetry=False,
    )
    run = create_run(RunStore(folder), intent)
    client.start(run)
    return run


def _pairs(run: Run, folder: Path, pairs: int, seconds: float, ramp: float) -> list[Pair]:
    """Wait for the measurement window, then measure pairs, each in a random order."""

    def measuring() -> bool:
        if not run.alive():
            raise RuntimeError(f"the load test ended before it measured: {_last_error(run)}")
        return _window_start(run) is not None

    def watched() -> Slice:
        with Terminal([*LLMVAL, "--workspace", str(folder)], COLUMNS, ROWS) as terminal:
            terminal.wait_for("1.1", 30)
            terminal.send("3")  # Telemetry: the pane that moves most
            time.sleep(SETTLE_S)
            found = _slice(seconds)
            terminal.send("q")
            time.sleep(0.3)
        time.sleep(SETTLE_S)
        return found

    until(measuring, START_S)
    time.sleep(ramp)
    order, found = random.Random(0), []
    for _ in range(pairs):
        if order.random() < 0.5:
            with_it = watched()
            found.append((with_it, _slice(seconds)))
        else:
            without = _slice(seconds)
            found.append((watched(), without))
        if not run.alive():
            raise RuntimeError(f"the load test ended while it was watched: {_last_error(run)}")
    return found


def _slice(seconds: float) -> Slice:
    start = time.monotonic()
    time.sleep(seconds)
    return start, time.monotonic()


def _window_start(run: Run) -> float | None:
    """The monotonic time of the `measure` event, which is sent when the window opens; None if it is not open yet."""
    for event in read_lines(run.events):
        if event.get("kind") == "phase" and event["data"].get("name") == "measure":
            return float(event["mono_ns"]) / 1e9
    return None


def _row(run: Run, folder: Path, pairs: list[Pair], nproc: int, model: str) -> Row:
    name = f"output tokens/s with the dashboard watching against without, {model} on {nproc}"
    bound = f"interval not below {BOUND}, nor above 1"
    start = _window_start(run)
    record = read_json(folder / "artifacts/watched.partial.json") or read_json(folder / "artifacts/watched.json")
    if start is None or not isinstance(record, dict):
        return Row(name, f"there is no result: {_last_error(run)}", bound, None)
    if not _saturated(run, [one for pair in pairs for one in pair]):
        return Row(name, "the engine was not saturated all the time: pass a higher --target-qps", bound, None)
    times = token_times(record)
    rates = [tuple(token_rate(times, begin - start, end - start) for begin, end in pair) for pair in pairs]
    found = [watched / alone for watched, alone in rates]
    low, high = interval(found)
    text = (
        f"{math.exp(statistics.fmean(map(math.log, found))):.4f} ({low:.4f} to {high:.4f}, 95 % of {len(found)} pairs "
        f"in random order); {statistics.fmean(alone for _, alone in rates):,.0f} tokens/s without"
    )
    if record["llmval"]["identity"]["device"] == "cpu":
        return Row(name, f"{text}; on a CPU the engine and the dashboard share the cores", bound, None)
    reached, why = verdict(low, high)
    return Row(name, f"{text}{why}", bound, reached)


def interval(ratios: list[float]) -> tuple[float, float]:
    """The 95 % interval of the mean ratio (of logarithms, by Student's t) of independent pairs; at least two."""
    logs = [math.log(ratio) for ratio in ratios]
    mean, freedom = statistics.fmean(logs), len(logs) - 1
    half = (_T[freedom - 1] if freedom <= len(_T) else _T_LATER) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean - half), math.exp(mean + half)


def verdict(low: float, high: float) -> tuple[bool | None, str]:
    """(whether the bound is reached, what to say). None: the interval is too wide to tell."""
    if low > 1:
        return False, f"; biased in the dashboard's favour by {100 * (low - 1):.2f} to {100 * (high - 1):.2f} %"
    if high < 1:
        return low >= BOUND, f"; slower by {100 * (1 - high):.2f} to {100 * (1 - low):.2f} %"
    if low >= BOUND:
        return True, ""
    return None, "; too wide to tell: pass more --pairs"


def _saturated(run: Run, slices: list[Slice]) -> bool:
    """Whether requests were queued at every sample from the first slice to the last."""
    begin, end = min(start for start, _ in slices), max(end for _, end in slices)
    queued = [
        event["data"]["queued"]
        for event in read_lines(run.events)
        if event.get("kind") == "metrics" and begin <= event["mono_ns"] / 1e9 <= end
    ]
    return bool(queued) and min(queued) > 0


def token_times(record: dict[str, Any]) -> list[float]:
    """The times of all output tokens in seconds after the window opened, sorted; from the keys in vLLM's format."""
    times: list[float] = []
    for start, ttft, gaps, count in zip(
        record["start_times"], record["ttfts"], record["itls"], record["output_lens"], strict=True
    ):
        if count:
            times += accumulate(gaps, initial=start + ttft)
    return sorted(times)


def token_rate(times: list[float], start: float, end: float) -> float:
    """Tokens per second from `start` to `end`."""
    return sum(start <= time_ < end for time_ in times) / (end - start)


def _last_error(run: Run) -> str:
    logs = [log.path for log in run.logs() if log.stream == "stderr"]
    lines = [line for path in logs for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "stderr is empty"


def row() -> Row:
    """As `make bench` runs it: the large model on 8, 4, 2 or 1 GPUs; without a GPU, a trial on the CPU."""
    gpus = len(gpu_inventory().get("gpus") or [])
    if not gpus:
        return watching(flags=("--device", "cpu", "--max-batch", "8", "--output-len", "uniform:16:48"))
    nproc = next(count for count in (8, 4, 2, 1) if count <= gpus)
    return watching(
        nproc, "llama-3.1-8b", 300.0, flags=("--prompt-len", "uniform:64:192", "--output-len", "uniform:128:384")
    )


def main(argv: list[str]) -> int:
    """Print the row. Returns 1 if the bound was missed. Arguments after `--` go to the load test."""
    own, flags = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watching", description=__doc__.splitlines()[0])
    parser.add_argument("--nproc", type=int, default=1)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--target-qps", type=float, default=60.0, help="more than the engine can serve")
    parser.add_argument("--pairs", type=int, default=6, help="pairs of slices, at least 2")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a slice")
    parser.add_argument("--ramp", type=float, default=6.0, help="seconds until the first slice")
    parser.add_argument("--json", type=Path, help="also write the row here")
    options = parser.parse_args(own)
    if options.pairs < 2:
        parser.error("one pair has no interval: pass --pairs 2 or more")
    found = watching(
        options.nproc, options.model, options.target_qps, options.pairs, options.seconds, options.ramp, tuple(flags)
    )
    print(found)
    if options.json is not None:
        options.json.write_text(json.dumps({"name": found.name, "measured": found.measured, "reached": found.reached}))
    return int(found.reached is False)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
