"""The command line: the demo without a terminal, the load test against its schedule, one byte per tick."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import Row
from llmval_tui.checklist.model import load
from llmval_tui.checklist.write_mark import set_mark
from llmval_tui.console.demo import prepare


def demo() -> list[Row]:
    """Run `llmval demo --headless`: its wall time, and the rate that its load test achieved."""
    with tempfile.TemporaryDirectory(prefix="llmval-bench-") as name:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "llmval_tui", "demo", "--headless", "--dir", f"{name}/demo"],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        wall = time.perf_counter() - start
        rows = [
            Row("headless demo: load test and its tick", f"{wall:.1f} s, exit {done.returncode}", "< 60 s",
                wall < 60 and done.returncode == 0)
        ]  # fmt: skip
        if done.returncode != 0:
            return [*rows, Row("load test against its schedule", done.stderr.strip()[-200:], "≥ 95 %", None)]
        (path,) = Path(f"{name}/demo/artifacts/inference").glob("*.json")
        result = json.loads(path.read_text())["llmval"]
    share = 100 * result["rates"]["achieved_qps"] / result["rates"]["offered_qps"]
    records = [record for record in result["requests"] if record["error"] is None]
    ordered = sum(record["intended_s"] <= record["dispatch_s"] <= record["first_token_s"] for record in records)
    text = (
        f"{share:.1f} % of {result['rates']['offered_qps']:.1f} QPS; TTFT_sched ≥ TTFT in {ordered} of {len(records)}"
    )
    return [
        *rows,
        Row("load test against its schedule, smoke", text, "≥ 95 %, all", share >= 95 and ordered == len(records)),
    ]


def one_byte() -> Row:
    """Tick each item of the checklist in turn and count the bytes that differ."""
    with tempfile.TemporaryDirectory(prefix="llmval-bench-") as name:
        path = prepare(Path(name) / "demo") / "docs" / "llm_validation_checklist.md"
        most = 0
        for step in load(path).steps:
            before = path.read_bytes()
            set_mark(path, step.key, True)
            after = path.read_bytes()
            differ = sum(a != b for a, b in zip(before, after, strict=False)) + abs(len(before) - len(after))
            most = max(most, differ)
        count = len(load(path).steps)
    return Row(f"bytes that differ after a tick, worst of {count}", str(most), "1", most == 1)
