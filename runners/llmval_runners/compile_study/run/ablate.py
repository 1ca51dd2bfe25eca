"""The same study again by backend, compile threads and cache: which part of the compiler it takes for the hang.

eager, aot_eager, aot_eager_decomp_partition, inductor is the order in which PyTorch's troubleshooting guide narrows
down. Each variant is a study of its own in `ablation/<name>/`, with its own watchdog and deadline.
"""

import argparse
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
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import read_json, write_json

END_S = 60.0  # from SIGTERM to SIGKILL of a variant's runner
SPARE_S = 180.0  # on top of --timeout: start, collecting, packing


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
_KEPT = (
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


def ablate(options: argparse.Namespace, layout: Layout, events: EventLog, stopped: Callable[[], bool]) -> None:
    """Run the variants one after the other; `ablation.json` grows by one with each, so that a kill keeps the rest.

    `stopped` ends it: the variant under way gets SIGTERM, and no other is begun.
    """
    done: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="llmval-ablation-cache-") as cache:
        for index, variant in enumerate(VARIANTS):
            if stopped():
                return
            events.progress(index, len(VARIANTS), "variants", f"ablation: {variant.name}")
            done.append(_one(options, layout, variant, cache, stopped))
            write_json(layout.root / "ablation.json", {"v": 1, "variants": done}, indent=1)


def _one(
    options: argparse.Namespace, layout: Layout, variant: Variant, cache: str, stopped: Callable[[], bool]
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
        deadline = time.monotonic() + options.timeout + SPARE_S
        while process.poll() is None and time.monotonic() < deadline and not stopped():
            time.sleep(0.2)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()  # its watchdog goes on, and ends the ranks in time
    result = read_json(Layout(folder).result)
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


def _flags(options: argparse.Namespace) -> list[str]:
    flags: list[str] = []
    for name in _KEPT:
        value = getattr(options, name)
        if value is not None and not (name == "inject_rank" and options.inject_hang is None):
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags
