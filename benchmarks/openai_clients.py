"""The client of OpenAI servers, against a mock server in a process of its own: is it right, and how much can it do?

The mock notes when each request arrived and when it wrote each token. The clock is that of the machine, so the client's
figures can be compared with the truth. The other clients (`vllm bench serve`, guidellm, aiperf) are looked for on the
PATH, and LLMVAL_BENCH_TOKENIZER names a folder with a tokenizer for them. The schedule of all is judged by the same
instrument, the arrivals at the mock, at a constant rate.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import Row

ROOT = Path(__file__).parents[1]
RUNNER = [sys.executable, str(ROOT / "runners" / "openai_load_test.py")]
MOST_DELAY_MS = 50.0
TOKENS = 128


@contextmanager
def mock(*flags: str, core: int | None = None, keep: str = "times") -> Iterator[str]:
    """A mock server with these flags, on one core if given; its URL. `keep`: what it notes."""
    argv = [sys.executable, "-m", "tests.helpers.openai_mock", "--loop", "uvloop", "--keep", keep, *flags]
    process = subprocess.Popen(on_core(argv, core), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def on_core(argv: list[str], core: int | None) -> list[str]:
    return argv if core is None else ["taskset", "-c", str(core), *argv]


def log_of(url: str) -> list[dict[str, Any]]:
    """What the mock did since the last call."""
    with urllib.request.urlopen(f"{url}/log") as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of a client: its record (of ours), CPU seconds with all children, most memory, and the mock's log."""

    record: dict[str, Any]
    cpu_s: float
    memory_mb: float
    log: list[dict[str, Any]]
    code: int


def ours(url: str, *flags: str, core: int | None = None) -> Ran:
    """Our client with these flags."""
    with tempfile.TemporaryDirectory(prefix="llmval-bench-") as folder:
        out = Path(folder) / "out.json"
        argv = [*RUNNER, "--url", url, "--warmup", "0", "--output-json", str(out), *flags]
        code, cpu, memory = call(on_core(argv, core), folder)
        log = log_of(url)
        record = json.loads(out.read_text())
    return Ran(record, cpu, memory, log[-record["num_prompts"] :], code)


def call(argv: list[str], folder: str) -> tuple[int, float, float]:
    """Run it. Returns its exit code, CPU seconds and most memory in MB (both with its children)."""
    process = subprocess.Popen(
        argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return process.returncode, cpu, usage.ru_maxrss / 1e3


# -- is it right


BEHAVIOURS: dict[str, tuple[list[str], list[str]]] = {
    "known delay": (["--first-s", "0.08", "--gap-s", "0.01"], ["--target-qps", "20"]),
    "stalls of 2 s": (["--first-s", "0.05", "--gap-s", "0.01", "--stall-every", "5"], ["--target-qps", "20"]),
    "one slot": (["--first-s", "0.02", "--gap-s", "0.002", "--slots", "1"], ["--target-qps", "20"]),
    "50 % errors": (
        ["--first-s", "0.05", "--gap-s", "0.01", "--fail-share", "0.5", "--healthy", "4"], ["--target-qps", "20"],
    ),
    "cut streams": (
        ["--first-s", "0.05", "--gap-s", "0.01", "--cut-after", "16", "--cut-every", "4"], ["--target-qps", "20"],
    ),
    "slow first byte": (["--first-s", "1.5", "--gap-s", "0.01", "--late-headers", "1"], ["--target-qps", "20"]),
}  # fmt: skip


def against_what_it_did(seconds: float = 10) -> Iterator[Row]:
    """The p50 and p99 of TTFT, TPOT and E2E in the record, beside those of what the mock did."""
    for name, (behaviour, load) in BEHAVIOURS.items():
        with mock(*behaviour) as url:
            ran = ours(url, "--duration", str(seconds), "--output-len", "32", "--prompt-len", "64", *load)
        record, served = ran.record, ran.log
        failed = sum(one["how"] != "done" for one in served)
        done = [one for one in served if one["how"] == "done"]
        truth = {
            "ttft": [one["sent"][0] - one["arrived"] for one in done],
            "tpot": [(one["sent"][-1] - one["sent"][0]) / (one["tokens"] - 1) for one in done],
            "e2el": [one["sent"][-1] - one["arrived"] for one in done],
        }
        worst, parts = 0.0, []
        for figure, values in truth.items():
            for percent in (50, 99):
                did = 1e3 * statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
                told = record[f"p{percent}_{figure}_ms"]
                worst = max(worst, abs(told - did) / max(2.0, 0.01 * did))
                parts.append(f"{figure} p{percent} {told:.2f} (did {did:.2f})")
        counts = f"{record['failed']} of {record['num_prompts']} failed (did {failed})"
        right = worst <= 1 and record["failed"] == failed and bool(failed) == (ran.code == 1 and not _grew(record))
        yield Row(f"mock: {name}", f"{counts}; {', '.join(parts)} ms", "within 2 ms or 1 %", right)


def _grew(record: dict[str, Any]) -> bool:
    return bool(record["llmval"]["verdict"]["word"] == "overloaded")


# -- how much can it do


def one_core(rate: float = 50, seconds: float = 20) -> Row:
    """50 requests/s of 128 tokens, the client on one core."""
    cores = sorted(os.sched_getaffinity(0))
    with mock("--gap-s", "0.01", "--first-s", "0.02", core=cores[-1]) as url:
        flags = [
            "--target-qps",
            str(rate),
            "--duration",
            str(seconds),
            "--output-len",
            str(TOKENS),
            "--prompt-len",
            "256",
        ]
        ran = ours(url, *flags, core=cores[0])
    rates, delay = ran.record["llmval"]["rates"], ran.record["llmval"]["schedule_delay"]["p99_ms"]
    share = rates["achieved_qps"] / rates["offered_qps"]
    tokens = ran.record["total_output_tokens"]
    text = (
        f"achieved {share:.2%}, p99 schedule delay {delay:.1f} ms, {ran.cpu_s / tokens * 1e6:.0f} µs CPU a token with "
        f"the start, {ran.record['failed']} failed; load average {os.getloadavg()[0]:.1f}"
    )
    good = share >= 0.99 and delay <= 20 and not ran.record["failed"]
    return Row(f"{rate:g} requests/s × {TOKENS} tokens on one core", text, "≥ 99 %, ≤ 20 ms", good)


def many_streams(streams: int = 10_000) -> Row:
    """All open at once: 1,000 requests/s for 10 s, each answered over more than 14 s."""
    seconds = streams / 1000
    with mock("--first-s", "0.5", "--gap-s", str(seconds / 5)) as url:
        flags = ["--target-qps", "1000", "--duration", str(seconds), "--output-len", "8", "--prompt-len", "16"]
        ran = ours(url, *flags, "--drain-timeout", "300")
    record = ran.record
    own = record["llmval"]["failures"].get("client", 0)
    text = (
        f"{record['max_concurrent_requests']:,} open at once, {record['failed']} failed ({own} of the client), "
        f"{ran.memory_mb:.0f} MB; load average {os.getloadavg()[0]:.1f}"
    )
    good = not record["failed"] and ran.memory_mb < 600 and record["max_concurrent_requests"] >= 0.99 * streams
    return Row(f"{streams:,} streams open at once", text, "no error, < 600 MB", good)


def highest_rates(seconds: float = 8) -> Iterator[Row]:
    """The highest rate of each client whose p99 schedule delay is at most 50 ms, and its CPU a token."""
    best: dict[str, float] = {}
    for name, program in (("ours", sys.executable), ("vllm", "vllm"), ("guidellm", "guidellm"), ("aiperf", "aiperf")):
        found = shutil.which(program)
        row = f"highest rate, {name}"
        if found is None:
            yield Row(row, f"not available: {program} is not on the PATH", None, None)
            continue
        if name != "ours" and "LLMVAL_BENCH_TOKENIZER" not in os.environ:
            yield Row(row, "not available: LLMVAL_BENCH_TOKENIZER names no folder with a tokenizer", None, None)
            continue
        with (
            mock("--gap-s", "0.01", "--first-s", "0.02", keep="requests") as url,
            tempfile.TemporaryDirectory() as folder,
        ):
            rate, cpu, delay = _highest(name, found, url, folder, seconds)
        best[name] = rate
        text = (
            f"{rate:g} requests/s × {TOKENS} tokens, p99 schedule delay {delay:.0f} ms; "
            f"{cpu * 1e6:.0f} µs CPU a token; load average {os.getloadavg()[0]:.1f}"
        )
        yield Row(row, text, None, True)
    if len(best) > 1:
        others = max(rate for name, rate in best.items() if name != "ours")
        yield Row(
            "highest rate, ours beside the best other", f"{best['ours'] / others:.1f}×", "> 1×", best["ours"] > others
        )


def _highest(name: str, program: str, url: str, folder: str, seconds: float) -> tuple[float, float, float]:
    """(requests/s, CPU seconds a token, p99 schedule delay in ms) at the highest rate that holds."""
    rate, held = 5.0, (0.0, 0.0, 0.0)
    base = _offer(name, program, url, folder, 2.0, 2.0)[1]  # the start, and a few requests
    while rate <= 2000:
        delay, cpu, tokens = _offer(name, program, url, folder, rate, seconds)
        if delay is None or delay > MOST_DELAY_MS:
            break
        held = rate, (cpu - base) / tokens, delay
        rate = round(rate * 2**0.5, 1)
    return held


def _offer(
    name: str, program: str, url: str, folder: str, rate: float, seconds: float
) -> tuple[float | None, float, int]:
    """(p99 schedule delay in ms by the mock's clock, None if requests are missing; CPU seconds; tokens)."""
    count = round(rate * seconds)
    _, cpu, _ = call(_argv(name, program, url, folder, rate, count), folder)
    served = [one for one in log_of(url) if one["how"] == "done" and one["tokens"] == TOKENS][-count:]
    if len(served) < count:
        return None, cpu, max(1, sum(one["tokens"] for one in served))
    arrived = sorted(one["arrived"] for one in served)
    ahead = [time_ - index / rate for index, time_ in enumerate(arrived)]
    late = sorted(1e3 * (one - min(ahead)) for one in ahead)
    return late[int(0.99 * (len(late) - 1))], cpu, count * TOKENS


def _argv(name: str, program: str, url: str, folder: str, rate: float, count: int) -> list[str]:
    """The command that offers `count` requests at a constant rate."""
    tokenizer = "tokenizer"  # aiperf takes a relative path for a folder, and an absolute one for a name on the hub
    link = Path(folder) / tokenizer
    if name != "ours" and not link.is_symlink():
        link.symlink_to(Path(os.environ["LLMVAL_BENCH_TOKENIZER"]).resolve())
    match name:
        case "ours":
            flags = ["--target-qps", str(rate), "--duration", str(count / rate), "--burstiness", "constant"]
            return [*RUNNER, "--url", url, *flags, "--warmup", "0", "--output-len", str(TOKENS), "--prompt-len", "64"]
        case "vllm":
            return [
                program, "bench", "serve", "--backend", "openai", "--base-url", url, "--endpoint", "/v1/completions",
                "--model", "mock", "--tokenizer", tokenizer, "--dataset-name", "random", "--random-input-len", "64",
                "--random-output-len", str(TOKENS), "--num-prompts", str(count), "--request-rate", str(rate),
                "--burstiness", "1000000", "--ignore-eos", "--disable-tqdm",
            ]  # fmt: skip
        case "guidellm":
            return [
                program, "run", "--backend", f"kind=openai_http,target={url},model=mock",
                "--profile", f"kind=constant,rate={rate}", "--constraint", f"kind=max_requests,count={count}",
                "--data", f"kind=synthetic_text,prompt_tokens=64,output_tokens={TOKENS}",
                "--tokenizer", f"kind=huggingface_auto,model={tokenizer}",
                "--output", f"kind=json,path={folder}/g.json",
                "--disable-console-interactive",
            ]  # fmt: skip
    return [
        program, "profile", "--model", "mock", "--url", url, "--endpoint-type", "completions", "--streaming",
        "--request-rate", str(rate), "--request-rate-mode", "constant", "--request-count", str(count),
        "--synthetic-input-tokens-mean", "64", "--output-tokens-mean", str(TOKENS), "--tokenizer", tokenizer,
        "--output-artifact-dir", f"{folder}/a", "--ui", "simple", "--extra-inputs", "ignore_eos:true",
    ]  # fmt: skip
