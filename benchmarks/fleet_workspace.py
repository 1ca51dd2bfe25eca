"""A workspace with the recorded run of many simulated nodes, for benchmarks, tests and pictures."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from llmval_tui.checklist.model import load
from llmval_tui.fleet.configuration import of_intent
from llmval_tui.fleet.differences import differences
from llmval_tui.fleet.launch import PARAMETER, FleetLaunch, Launcher, LaunchKind
from llmval_tui.fleet.manifest import write_manifest
from llmval_tui.fleet.outliers import decide_all, group_of, repeat_wanted, statistics
from llmval_tui.fleet.probe import NodeProbe
from llmval_tui.fleet.record import Fleet, NodeOutcome, NodeResult, write_fleet
from llmval_tui.foundation.files import sha256_of, to_json
from llmval_tui.runs.records import (
    Command,
    CommandStatus,
    Gate,
    Intent,
    JobStatus,
    Outcome,
    RestsOn,
    State,
    Status,
    StepRef,
    Verdict,
)
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.sample import GpuSample, HostSample, Sample

BEGAN_NS = 1_767_323_045_000_000_000  # 2026-01-02T03:04:05Z
RUN_ID = "20260102T030405Z-1.1-f1ee70"
LIST = "# Fleet\n\n## 1. Serving\n\n- [ ] Run: `torchrun --nproc_per_node=8 runners/inference_server_load_test.py`\n"
GPUS = 8
SLOW = 0.06


def names_of(nodes: int) -> list[str]:
    """`n01` … `n64`."""
    digits = len(str(nodes))
    return [f"n{number:0{digits}}" for number in range(1, nodes + 1)]


def make_fleet(
    root: Path, nodes: int = 64, *, slow: Sequence[int] = (22,), failed: Sequence[int] = (40,),
    silent: Sequence[int] = (16,), fewer: Sequence[int] = (7,), running: Sequence[int] = (), judged: bool = True,
    seed: int = 1,
) -> Run:  # fmt: skip
    """The run of one item on every node. Numbers count from 0.

    Args:
        slow: nodes 6 % slower in both measurements.
        failed, silent, running: nodes that failed, stopped writing, or are at work.
        fewer: nodes with 7 of 8 GPUs.
        judged: the run has ended, and `fleet.json` and its verdict are there.
    """
    draw = random.Random(seed)
    names = names_of(nodes)
    (root / "docs").mkdir(parents=True, exist_ok=True)
    checklist = root / "docs" / "llm_validation_checklist.md"
    checklist.write_text(LIST)
    step = load(checklist).steps[0]
    ref = StepRef(step.number, step.section, step.text, step.occurrence, "docs/llm_validation_checklist.md")
    folder = root / "artifacts" / "runs" / RUN_ID
    launch = FleetLaunch(Launcher.SLURM, LaunchKind.EACH, nodes, "python")
    intent = Intent(
        v=1, run_id=RUN_ID, action="command", step=ref, cwd=str(root), created_utc="2026-01-02T03:04:05Z",
        commands=[Command("main", ["true"], step.spans[0], nproc=GPUS)], order_ns=BEGAN_NS, launcher="slurm",
        how="each", nodes=names, params={PARAMETER: asdict(launch)},
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(to_json(intent))
    job = JobStatus("4711", "4711.0", names, state="COMPLETED" if judged else "RUNNING")
    status = Status(state=State.FINISHED if judged else State.RUNNING, started_utc="2026-01-02T03:04:05Z", job=job)
    (folder / "status.json").write_bytes(to_json(status))
    results: dict[str, NodeResult] = {}
    again: dict[str, dict[str, float | None]] = {}
    for at, name in enumerate(names):
        speed = 1 - SLOW * (at in slow)
        result = _node(
            folder / "nodes" / name, intent, name, speed, draw, gpus=GPUS - (at in fewer),
            ended=at not in silent and at not in running, outcome=Outcome.FAIL if at in failed else Outcome.PASS,
        )  # fmt: skip
        if result is not None:
            results[name] = result
        elif judged:
            results[name] = NodeResult(NodeOutcome.LOST, "it died in phase measure")
        again[name] = _metrics(speed, draw)
    if judged:
        first = statistics(results)
        suspects, references = repeat_wanted(first)
        found = decide_all(first, {name: again[name] for name in (*suspects, *references)})
        lost = [name for name, one in results.items() if one.outcome is NodeOutcome.LOST]
        different = differences({name: one.configuration for name, one in results.items()})
        write_fleet(folder, Fleet(1, RUN_ID, "slurm", "each", results, lost, found, different))
        gate = Gate("nodes", Outcome.FAIL, "3 of 64", "0", "n23 is slow")
        verdict = Verdict(1, RUN_ID, Outcome.FAIL, [gate], "2026-01-02T03:10:05Z", "a node is slow")
        (folder / "verdict.json").write_bytes(to_json(verdict))
    return Run(folder)


def make_refused_fleet(root: Path, nodes: int, reason: str, *, judged: bool = True) -> Run:
    """A run that was refused before its start: no node has written anything. `reason`: why, in a sentence."""
    run = make_fleet(root, nodes, slow=(), failed=(), silent=(), fewer=(), judged=False)
    shutil.rmtree(run.folder / "nodes")
    names = names_of(nodes)
    job = JobStatus(None, None, names, state="REFUSED", refused=reason)
    (run.folder / "status.json").write_bytes(to_json(Status(state=State.FINISHED, job=job)))
    if judged:
        results = {name: NodeResult(NodeOutcome.LOST, "nothing was started") for name in names}
        write_fleet(run.folder, Fleet(1, RUN_ID, "ssh", "each", results, names))
        gate = Gate("started", Outcome.INCONCLUSIVE, "no", "on all nodes", reason)
        verdict = Verdict(1, RUN_ID, Outcome.INCONCLUSIVE, [gate], "2026-01-02T03:10:05Z", reason)
        (run.folder / "verdict.json").write_bytes(to_json(verdict))
    return Run(run.folder)


def _metrics(speed: float, draw: random.Random) -> dict[str, float | None]:
    return {
        "completed_qps": 26.8 * speed * draw.gauss(1, 0.006),
        "ttft_sched_p99_ms": 49.0 / speed * draw.gauss(1, 0.01),
        "tpot_p50_ms": 7.9 / speed * draw.gauss(1, 0.005),
        "output_tokens_per_s": 13_700 * speed * draw.gauss(1, 0.006),
    }


def _node(
    folder: Path, whole: Intent, name: str, speed: float, draw: random.Random, *, gpus: int, ended: bool,
    outcome: Outcome,
) -> NodeResult | None:  # fmt: skip
    (folder / "logs").mkdir(parents=True)
    listed = [
        {
            "index": gpu, "name": "NVIDIA H200", "uuid": f"GPU-{name}-{gpu}", "power_limit_w": 700.0,
            "nvlink_links": 18, "nvlink_links_active": 18, "ecc_enabled": True,
        }
        for gpu in range(gpus)
    ]  # fmt: skip
    driver = "570.86.15" if name.endswith("36") else "580.159.04"
    host = {"name": name, "kernel": "5.15.0", "gpu": {"driver_version": driver, "gpus": listed}, "nics": []}
    intent = Intent(
        v=1, run_id=whole.run_id, action=whole.action, step=whole.step, commands=whole.commands, cwd=whole.cwd,
        created_utc=whole.created_utc, order_ns=whole.order_ns, host=host, versions={"torch": "2.11.0"},
        environment={"NCCL_DEBUG": "WARN"},
    )  # fmt: skip
    (folder / "run.json").write_bytes(to_json(intent))
    probe = NodeProbe(
        1, name, name, f"machine-{name}", f"boot-{name}", BEGAN_NS, "0.1.0", host=host, versions=intent.versions,
        environment=intent.environment,
    )  # fmt: skip
    (folder / "env.json").write_bytes(to_json(probe))
    command = CommandStatus("main", exit_code=None if not ended else 0 if outcome is Outcome.PASS else 1)
    state = State.FINISHED if ended else State.RUNNING
    status = Status(state=state, started_utc="2026-01-02T03:04:05Z", commands=[command])
    (folder / "status.json").write_bytes(to_json(status))
    (folder / "logs" / "main.stdout.log").write_text(f"the log of {name}\n")
    events = b""
    for second in range(10):
        data = {"done": 168 * second, "total": 1680, "unit": "requests"}
        wall = BEGAN_NS + second * 10**9
        if not second:
            phase = {"name": "measure"}
            events += to_json({"v": 1, "t_ns": wall, "mono_ns": wall, "rank": 0, "kind": "phase", "data": phase})
        events += to_json({"v": 1, "t_ns": wall, "mono_ns": wall, "rank": 0, "kind": "progress", "data": data})
    (folder / "events.jsonl").write_bytes(events)
    lines = b""
    for second in range(3):
        samples = [
            GpuSample(
                gpu, uuid=f"GPU-{name}-{gpu}", name="NVIDIA H200", sm_util_percent=48.0,
                power_w=400.0 * speed + draw.gauss(0, 12), power_limit_w=700.0,
                temperature_c=float(draw.randint(48, 56)), memory_used_bytes=137 << 30, memory_total_bytes=141 << 30,
            )
            for gpu in range(gpus)
        ]  # fmt: skip
        wall = BEGAN_NS + second * 10**9
        lines += Sample(wall, wall, HostSample(cpu_percent=4.0), samples).to_line()
    (folder / "telemetry.jsonl").write_bytes(lines)
    if not ended:
        return None
    metrics = _metrics(speed, draw)
    summary = f"{metrics['completed_qps']:.1f} QPS"
    gate = Gate("kept up", outcome, summary, "≥ 25.4", "NVLink of GPU 6: 14 of 18 links are active")
    verdict = Verdict(
        1, whole.run_id, outcome, [gate], "2026-01-02T03:09:05Z",
        summary if outcome is Outcome.PASS else gate.reason, metrics=metrics, rests_on=RestsOn.MEASURED,
    )  # fmt: skip
    path = folder / "verdict.json"
    path.write_bytes(to_json(verdict))
    write_manifest(folder)
    configuration = of_intent(intent)
    return NodeResult(
        NodeOutcome(outcome.value), None if outcome is Outcome.PASS else summary, metrics, f"machine-{name}",
        f"boot-{name}", configuration, group_of(configuration), sha256_of(path),
    )  # fmt: skip
