"""Records the stacks of stalls whose place is known: `python -m benchmarks.stall_stacks FILE [NAME …]`.

The classifier's tests read the file (tests/runners/compile_study/watch/recorded). Each stall is a process of
`benchmarks/programs/stalls.py`; its stack is read by the runners' own reader, py-spy.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmval_runners.compile_study.watch import evidence as readings
from llmval_runners.compile_study.watch import stacks
from llmval_runners.compile_study.watch.processes import children_of_all, descendants

PROGRAM = Path(__file__).with_name("programs") / "stalls.py"
# The kinds that are right for a stall. "unknown" is right where no part of torch is stuck.
CPU: dict[str, tuple[str, ...]] = {
    "dynamo_step": ("dynamo_tracing",),
    "dynamo_variable": ("dynamo_tracing",),
    "dynamo_guards": ("dynamo_tracing",),
    "dynamo_fake_operator": ("dynamo_tracing",),
    "aot_joint": ("aot_autograd",),
    "aot_partitioner": ("aot_autograd",),
    "aot_functionalize": ("aot_autograd",),
    "inductor_pass": ("inductor_codegen",),
    "inductor_scheduler": ("inductor_codegen",),
    "inductor_symbols": ("inductor_codegen",),
    "cxx_compiler_in_process": ("compile_worker",),
    "cxx_compiler_in_workers": ("compile_worker",),
    "autotune_cpu": ("autotune",),
    "run_inductor": ("compiled_code",),
    "run_inductor_backward": ("compiled_code",),
    "run_aot_eager": ("compiled_code",),
    "run_eager_backend": ("compiled_code", "unknown"),
    "run_without_compile": ("unknown",),
    "spin_without_compile": ("unknown",),
    "all_reduce": ("collective",),
    "barrier": ("collective",),
    "all_gather_object": ("collective",),
    "receive": ("collective",),
    "asynchronous_wait": ("collective", "unknown"),
    "functional_collective": ("collective",),
    "compiled_collective": ("collective",),
    "join_group": ("collective",),
    "join_tcp_group": ("collective",),
    "read_fifo": ("io",),
    "held_lock": ("io",),
    "silent_server": ("io",),
}
GPU: dict[str, tuple[str, ...]] = {
    "synchronize": ("device",),
    "event_synchronize": ("device",),
    "item": ("device", "unknown"),
    "graph_replay": ("device",),
    "launch_queue_full": ("compiled_code", "device"),
    "cudagraph_trees": ("device", "compiled_code"),
    "autotune_gpu": ("autotune",),
    "empty_cache": ("device",),
}
READY_S, SETTLE_S = 180.0, 2.0


def record(name: str, py_spy: str) -> dict[str, Any]:
    """The evidence of one stall, as the watchdog collects it of a rank, with the kinds that are right.

    Raises:
        RuntimeError: the program ended, or never reported that it is about to block.
    """
    with tempfile.TemporaryDirectory(prefix="stall") as scratch:
        ready = Path(scratch) / "ready.json"
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": f"{scratch}/cache", "PYTHONDONTWRITEBYTECODE": "1"}
        with (Path(scratch) / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(PROGRAM), name, str(ready)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True, cwd=scratch,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + READY_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    last = (Path(scratch) / "log").read_text(errors="replace")[-600:]
                    raise RuntimeError(f"{name}: exit code {process.poll()}, no stall: {last}")
                time.sleep(0.1)
            time.sleep(SETTLE_S)
            return _evidence(name, json.loads(ready.read_text()), py_spy, scratch)
        finally:
            _end(process)


def _evidence(name: str, ready: dict[str, Any], py_spy: str, scratch: str) -> dict[str, Any]:
    own = [one for one in descendants(ready["pid"], children_of_all()) if one.compile_worker]
    samples = readings.sample([ready["pid"], *(one.pid for one in own)])
    threads, why = stacks.read_threads(py_spy, ready["pid"])
    if threads is None:
        raise RuntimeError(f"{name}: {why}")
    main = next(thread["frames"] for thread in threads if thread["thread_id"] == ready["main_thread"])
    for frame in main:
        frame["file"] = _plain(frame["file"], scratch)
    process = readings.with_growth(samples[ready["pid"]])
    assert process is not None
    kept = ("state", "wchan", "waits_for_file", "cpu_fraction")
    return {
        "name": name,
        "expected": list((CPU | GPU)[name]),
        "torch": ready["torch"],
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "evidence": {
            "rank": 0,
            "idle_s": SETTLE_S,
            "beat": {"operation": "", "sequence": 0, "progress_order": [0], "phase": "steps", "step": 0},
            "process": {key: process[key] for key in kept}
            | {"waits_for_file": _plain(process["waits_for_file"], scratch)},
            "stack": {"source": "py-spy", "main": main, "threads": len(threads), "notes": []},
            "workers": [
                {key: worker[key] for key in ("rank", "pid", "state", "cpu_fraction", "compiler")}
                for worker in (readings.worker_reading(0, one, samples) for one in own)
            ],
            "collectives": [],
        },
    }


def _plain(path: str | None, scratch: str) -> str | None:
    """A path without what is of this machine alone."""
    if path is None:
        return None
    path = path.replace(scratch, "/scratch").replace(str(PROGRAM), "/stalls.py")
    return re.sub(r".*(?=/(?:site|dist)-packages/)|.*(?=/lib/python3\.\d+/)", "", path)


def _end(process: "subprocess.Popen[bytes]") -> None:
    everybody = descendants(process.pid, children_of_all())
    for pid in (process.pid, *(one.pid for one in everybody)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    import torch

    target, names = Path(sys.argv[1]), sys.argv[2:]
    py_spy = stacks.find_py_spy()
    if py_spy is None:
        print("py-spy is not installed: pip install py-spy", file=sys.stderr)
        return 2
    wanted = names or [*CPU, *(GPU if torch.cuda.is_available() else ())]
    found, failed = [], 0
    for name in wanted:
        try:
            found.append(record(name, py_spy))
            print(f"{name}: {len(found[-1]['evidence']['stack']['main'])} frames", flush=True)
        except RuntimeError as error:
            failed += 1
            print(error, file=sys.stderr, flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("[\n" + ",\n".join(json.dumps(one) for one in found) + "\n]\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
