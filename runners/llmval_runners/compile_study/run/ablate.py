"""The ablation: the study again with other backends, compile threads and caches, to find the faulty compiler part.

PyTorch's troubleshooting guide narrows down by backend in this order: eager, aot_eager, aot_eager_decomp_partition,
inductor. Each variant is a complete study in `ablation/<name>/`, with its own watchdog and deadline.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmval_runners.compile_study.bundle.layout import SCRIPT, Layout
from llmval_runners.compile_study.options import StudyOptions
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import read_json, write_json

TERMINATE_S = 60.0  # between SIGTERM and SIGKILL for a variant's runner
EXTRA_S = 180.0  # on top of --timeout, for the start, the evidence and the bundle


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    backend: str
    environment: dict[str, str]
    shared_cache: bool = False


VARIANTS = (
    Variant("eager", "eager", {}),
    Variant("aot_eager", "aot_eager", {}),
    Variant("aot_eager_decomp_partition", "aot_eager_decomp_partition", {}),
    Variant("inductor_one_thread", "inductor", {"TORCHINDUCTOR_COMPILE_THREADS": "1"}),
    Variant("inductor_cold", "inductor", {}, shared_cache=True),
    Variant("inductor_warm", "inductor", {}, shared_cache=True),
)
_COMMON_FLAGS = (
    "model",
    "checkpoint",
    "sequence_length",
    "batch_size",
    "tensor_parallel_gpus",
    "device",
    "steps",
    "seed",
    "compile_mode",
    "stall_after",
    "timeout",
    "stacks",
    "inject_hang",
    "inject_rank",
)


def ablate(options: StudyOptions, layout: Layout, events: EventLog, stopped: Callable[[], bool]) -> None:
    """Run the variants one after the other. `ablation.json` is rewritten after each, so a kill keeps the others.

    When `stopped` returns True, the running variant gets SIGTERM, and no other variant starts.
    """
    done: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="llmval-ablation-cache-") as cache:
        for index, variant in enumerate(VARIANTS):
            if stopped():
                return
            events.progress(index, len(VARIANTS), "variants", f"ablation: {variant.name}")
            done.append(_run_variant(options, layout, variant, cache, stopped))
            write_json(layout.root / "ablation.json", {"v": 1, "variants": done}, indent=1)


def _run_variant(
    options: StudyOptions, layout: Layout, variant: Variant, cache: str, stopped: Callable[[], bool]
) -> dict[str, Any]:
    folder = layout.root / "ablation" / variant.name
    command = [
        sys.executable,
        str(SCRIPT),
        *_flags(options),
        "--backend",
        variant.backend,
        "--skip-eager",
        "--after-stall",
        "end",
    ]
    command += ["--no-collect-env", "--no-native-stacks", "--output-dir", str(folder)]
    if variant.shared_cache:
        command += ["--cache-dir", cache]
    environment = {name: value for name, value in os.environ.items() if name != "LLMVAL_EVENTS"} | variant.environment
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + options.timeout + EXTRA_S
        while process.poll() is None and time.monotonic() < deadline and not stopped():
            time.sleep(0.2)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(TERMINATE_S)
            except subprocess.TimeoutExpired:
                process.kill()  # its watchdog continues, and ends the ranks in time
    return _row(variant, read_json(Layout(folder).result))


def _row(variant: Variant, result: dict[str, Any] | None) -> dict[str, Any]:
    if result is None:
        return {
            "name": variant.name,
            "outcome": "no result",
            "verdict": None,
            "compile_s": None,
            "median_step_s": None,
            "summary": "see its log",
        }
    compiled = result["compiled"] or {}
    return {
        "name": variant.name,
        "outcome": result["outcome"],
        "verdict": result["verdict"]["kind"] if result["verdict"] else None,
        "compile_s": compiled.get("compile_s"),
        "median_step_s": compiled.get("median_step_s"),
        "summary": result["summary"],
    }


def _flags(options: StudyOptions) -> list[str]:
    flags: list[str] = []
    for name in _COMMON_FLAGS:
        value = getattr(options, name)
        if value is not None and not (name == "inject_rank" and options.inject_hang is None):
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags
