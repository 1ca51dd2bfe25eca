"""512 simulated nodes: judging them, looking at them, and a key in the Fleet pane to its change on the screen."""

import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.dashboard import LLMVAL, PROGRAMS
from benchmarks.fleet_workspace import GPUS, make_fleet, names_of
from benchmarks.report import Row
from benchmarks.terminal import Terminal
from llmval_tui.actions.nodes.verdict import judge_fleet
from llmval_tui.fleet.compare import compare
from llmval_tui.fleet.follower import FleetFollower
from llmval_tui.fleet.launch import launch_of
from llmval_tui.fleet.record import fleet_bytes
from llmval_tui.foundation.files import to_json
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.dcgm.exposition import read_dcgm
from llmval_tui.telemetry.sample import GpuSample, Sample

NODES = 512
WRITTEN_A_SECOND = 100  # nodes whose files grow each second
JUDGED_AGAIN = 20


def judging(nodes: int = NODES) -> Iterator[Row]:
    """Judge a finished run on many nodes, 20 times, and look at it as the dashboard does."""
    with tempfile.TemporaryDirectory(prefix="llmval-bench-") as name:
        run = make_fleet(Path(name), nodes, judged=False, silent=())
        began = time.perf_counter()
        judge_fleet(run)
        took = time.perf_counter() - began
        yield Row(f"{nodes} simulated nodes: judging", f"{took:.2f} s", "< 5 s", took < 5)
        status = run.status()
        assert status.job is not None
        launch = launch_of(run.intent)
        seen = {fleet_bytes(compare(Run(run.folder), launch, status.job)[0]) for _ in range(JUDGED_AGAIN)}
        text = f"{len(seen)} different fleet.json"
        yield Row(f"the same evidence judged {JUDGED_AGAIN} times", text, "identical bytes", len(seen) == 1)
    with tempfile.TemporaryDirectory(prefix="llmval-bench-") as name:
        run = make_fleet(Path(name), nodes, judged=False, silent=(), running=range(nodes))
        follower = FleetFollower(run)
        first = _seconds(follower.look)
        later = [_seconds(follower.look) for _ in range(8)]
        text = f"the first {1000 * first:.0f} ms, later {1000 * statistics.median(later):.0f} ms"
        yield Row(f"one look at {nodes} nodes that run", text, None, True)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def keys(nodes: int = NODES, columns: int = 160, rows: int = 50, presses: int = 300, bound_ms: float = 60) -> Row:
    """Time from a key in the Fleet pane to its change on the screen, while the nodes' files grow."""
    with tempfile.TemporaryDirectory(prefix="llmval-bench-") as name:
        folder = Path(name)
        run = make_fleet(folder, nodes, judged=False, silent=(), failed=(), slow=(), fewer=(), running=range(nodes))
        names = names_of(nodes)
        left, right = names[nodes // 2], names[nodes // 2 + 1]
        ended = threading.Event()
        writer = threading.Thread(target=_write, args=(run, names, ended), daemon=True)
        latencies: list[float] = []
        echoes: list[float] = []
        with (
            Terminal([*LLMVAL, "--workspace", str(folder)], columns, rows) as terminal,
            Terminal([sys.executable, str(PROGRAMS / "echo.py")], 20, 3) as echo,
        ):
            terminal.wait_for("1.1", 30)
            terminal.send("8")
            terminal.wait_for(f"{nodes} running", 30)
            terminal.send(f"/{left}")
            terminal.wait_for(left, 10)
            terminal.send("\r")
            terminal.wait_for(f" {left} ", 10)
            writer.start()
            time.sleep(3)
            cpu, start = terminal.own_cpu_seconds(), time.perf_counter()
            for count in range(presses):
                key, shown = ("l", f" {right} ▸") if count % 2 == 0 else ("h", f" {left} ▸")
                latencies.append(1000 * terminal.press(key, None, shown))
                echoes.append(1000 * echo.press("ab"[count % 2], 0, f"[{'ab'[count % 2]}]"))
                time.sleep(max(0.0, start + 0.1 * (count + 1) - time.perf_counter()))
            span = time.perf_counter() - start
            share = 100 * (terminal.own_cpu_seconds() - cpu) / span
        ended.set()
        writer.join(10)
    p99, echo_p99 = (statistics.quantiles(found, n=100, method="inclusive")[98] for found in (latencies, echoes))
    text = f"p50 {statistics.median(latencies):.0f} ms, p99 {p99:.0f} ms of {presses} keys "
    text += f"(a bare echo: p99 {echo_p99:.0f} ms); {share:.0f} % of a core"
    name = f"Fleet pane, {nodes} nodes at {columns}×{rows}, {min(nodes, WRITTEN_A_SECOND)} of them writing each second"
    return Row(f"{name}: key to screen", text, f"p99 < {bound_ms:.0f} ms", p99 < bound_ms)


def _write(run: Run, names: list[str], ended: threading.Event) -> None:
    """Let the telemetry and the events of nodes grow, as their recorders do."""
    draw, at = random.Random(2), 0
    while not ended.is_set():
        began = time.monotonic()
        for _ in range(min(len(names), WRITTEN_A_SECOND)):
            folder = run.folder / "nodes" / names[at % len(names)]
            at += 1
            now = time.time_ns()
            gpus = [GpuSample(gpu, power_w=400 + draw.gauss(0, 12), power_limit_w=700.0) for gpu in range(GPUS)]
            with (folder / "telemetry.jsonl").open("ab") as file:
                file.write(Sample(now, now, None, gpus).to_line())
            data = {"done": at % 1680, "total": 1680, "unit": "requests"}
            with (folder / "events.jsonl").open("ab") as file:
                file.write(to_json({"v": 1, "t_ns": now, "mono_ns": now, "rank": 0, "kind": "progress", "data": data}))
        ended.wait(max(0.05, 1 - (time.monotonic() - began)))


def exporters(nodes: int = 64) -> Row:
    """Read the answers of many dcgm-exporters, 8 GPUs and the default counters each."""
    names = [
        "SM_CLOCK",
        "MEM_CLOCK",
        "MEMORY_TEMP",
        "GPU_TEMP",
        "POWER_USAGE",
        "TOTAL_ENERGY_CONSUMPTION",
        "PCIE_REPLAY_COUNTER",
        "GPU_UTIL",
        "MEM_COPY_UTIL",
        "ENC_UTIL",
        "DEC_UTIL",
        "XID_ERRORS",
        "FB_FREE",
        "FB_USED",
        "FB_RESERVED",
        "NVLINK_BANDWIDTH_TOTAL",
    ]
    lines = []
    for name in names:
        lines += [f"# HELP DCGM_FI_DEV_{name} x", f"# TYPE DCGM_FI_DEV_{name} gauge"]
        for gpu in range(GPUS):
            labels = f'gpu="{gpu}",UUID="GPU-{gpu}",device="nvidia{gpu}",modelName="NVIDIA H100 80GB HBM3",hostname="n"'
            lines.append(f"DCGM_FI_DEV_{name}{{{labels}}} {gpu + 1}")
    text = "\n".join(lines) + "\n"
    began = time.process_time()
    for _ in range(nodes):
        read_dcgm(text, "n")
    took = time.process_time() - began
    measured = f"{1000 * took:.0f} ms of a core a pass ({100 * took / 5:.1f} % at 5 s)"
    return Row(f"answers of {nodes} dcgm-exporters", measured, "≤ 5 % of a core", took / 5 <= 0.05)
