"""The engine benchmark as a person starts it, on a CPU, and what a lag of one step means for the engine."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import fastjsonschema
import pytest
import torch
from llmval_runners.benchmark.benchmark import Benchmark, _fill, flag_names
from llmval_runners.benchmark.options import parse, parser
from llmval_runners.benchmark.saturated import SaturatedWindow
from llmval_runners.engine import fp8
from llmval_runners.engine import loader as executor
from llmval_runners.engine.config import _check_fp8_shape, _check_precision, load_transformer_engine
from llmval_runners.engine.engine import Engine
from llmval_runners.engine.kernels import all_reduce
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.request import Request
from llmval_runners.engine.settings import EngineSettings
from llmval_runners.engine.shapes import shape_by_name
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.launch import _first
from llmval_runners.process.rank_main import Rank

ROOT = Path(__file__).parents[3]
FLAGS = flag_names("fp8")


def start(*flags: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "runners/engine_benchmark.py"), "--model", "tiny", "--device", "cpu"]
    command += ["--backends", "sdpa", "--repeats", "1", *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMVAL_")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


def checked(out: Path) -> dict:
    schema = json.loads((ROOT / "docs/schemas/engine_benchmark.schema.json").read_text())
    return fastjsonschema.compile(schema)(json.loads(out.read_text()))


def test_every_row_on_a_cpu_keeps_the_schema(tmp_path: Path) -> None:
    out = tmp_path / "new" / "b.json"
    ended = start("--rows", "decode,prefill,long,saturated", "--json", str(out))
    assert ended.returncode == 0, ended.stderr
    result = checked(out)
    named = [(row["row"], row["batch"]) for row in result["rows"]]
    assert named == [
        ("decode", 1),
        ("decode", 4),
        ("prefill", 2),
        ("long prefill", 1),
        ("long decode", 1),
        ("saturated", 4),
    ]


def test_two_ranks_by_plain_python_say_what_the_model_of_a_step_is_made_of(tmp_path: Path) -> None:
    out = tmp_path / "b.json"
    flags = ["--rows", "decode,prefill,saturated,all_reduce", "--batches", "4", "--tensor-parallel-gpus", "2"]
    ended = start(*flags, "--json", str(out))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("decode  ") == 1  # of both ranks, one prints
    result = checked(out)
    sums = [row for row in result["rows"] if row["row"] == "all_reduce"]
    assert [row["bytes"] for row in sums] == [2**power for power in range(14, 21)]
    assert [row["busbw_gb_per_s"] for row in sums] == pytest.approx([row["bytes_per_s"] / 1e9 for row in sums])  # n = 2
    assert [row["row"] for row in result["rows"][len(sums) :]] == ["decode", "prefill", "saturated"]
    row, load = result["rows"][len(sums)], result["rows"][-1]
    model = row["roofline"]
    config = benchmark("--model", "tiny", "--device", "cpu").configs["float32", "sdpa"]
    table = config.shape.vocab * config.shape.hidden * 4
    assert model["weight_bytes"] == replace(config, tensor_parallel=2).weight_bytes_per_rank - table
    assert model["kv_bytes"] == config.shape.kv_bytes_per_token(4) * 4 * 32 // 2
    assert (model["all_reduces"], model["all_reduce_bytes"]) == (2 * 2, 4 * 128 * 4)
    memory_ms = 1e3 * (model["weight_bytes"] + model["kv_bytes"]) / result["ceilings"]["copy_bytes_per_s"]
    sums_ms = 4 * model["all_reduce_us"][row["all_reduce"]] / 1e3
    assert model["step_ms"] == pytest.approx(memory_ms + sums_ms)
    assert row["of_roofline"] == pytest.approx(model["step_ms"] / row["value"])
    assert load["modelled"] < 4 / load["decode_step_ms"] * 1e3 + load["prefill_tokens_per_s"]
    assert load["of_modelled"] == pytest.approx(load["value"] / load["modelled"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--tensor-parallel-gpus 3", "pass --tensor-parallel-gpus 1 or 2 or 4"),
        ("--tensor-parallel-gpus 2 --all-reduce one-shot", "this run is on a CPU: leave --all-reduce out"),
        ("--rows all_reduce", "needs several ranks: pass --tensor-parallel-gpus 2"),
        ("--all-reduce nccl", "pass --tensor-parallel-gpus"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_by_all_ranks_as_one(flags: str, says: str) -> None:
    ended = start(*flags.split())
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("refused:") == 1 and says in ended.stderr


def test_compiling_with_fp8_is_refused_in_the_benchmarks_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(Refused) as refusal:
        benchmark("--compile-mode", "smart", "--precisions", "bf16,fp8,transformer-engine")
    says = "--compile-mode smart compiles the engine in bfloat16 only, and --precisions has fp8, transformer-engine"
    assert str(refusal.value) == f"{says}: pass --precisions bf16 with it."


def benchmark(*flags: str, ranks: int = 1) -> Benchmark:
    return Benchmark(parse([*flags]), EventLog(0), Rank(0, ranks, 0, ranks, under_torchrun=False))


@pytest.mark.parametrize("backend", ["sdpa", "flex"])
def test_what_is_measured_reads_a_cache_of_random_keys_and_values(monkeypatch, backend: str) -> None:
    """Zeros would be read faster, and a softmax over them says nothing. Also where the cache is narrower."""
    torch.manual_seed(0)
    made, seen = benchmark("--model", "tiny", "--device", "cpu", "--backends", backend), []
    monkeypatch.setattr(
        "llmval_runners.benchmark.benchmark.rows_of", lambda bench, *_: seen.append(bench.runner.cache.pool)
    )
    made._engine("float32", backend, Parallel(torch.device("cpu")), {})
    (pool,) = seen
    spread = pool.flatten(2).std(dim=2)  # of each layer's keys and values
    assert ((spread > 0.9) & (spread < 1.1)).all()
    assert not torch.equal(pool[0, 0], pool[0, 1]) and not torch.equal(pool[0], pool[1])
    narrow = torch.zeros(2, 2, 1, 64, 16, dtype=torch.float8_e4m3fn)
    _fill(narrow)
    assert (narrow.float().std(dim=(3, 4)) > 0.8).all()


def out_of_memory() -> None:
    config = benchmark("--model", "tiny", "--device", "cpu").configs["float32", "sdpa"]
    raise Refused(executor.out_of_memory(config, 2**30, torch.OutOfMemoryError("Tried to allocate 2 GiB")))


def old_gpu() -> None:
    settings = EngineSettings(fp8_mode="native", kv_dtype="fp8")
    with (
        patch.object(torch.cuda, "get_device_capability", lambda _: (8, 0)),
        patch.object(torch.cuda, "get_device_name", lambda _: "A100"),
    ):
        _check_precision(settings, torch.device("cuda"), FLAGS)


def no_transformer_engine() -> None:
    with patch.dict(sys.modules, {"transformer_engine.pytorch": None}), patch.object(fp8, "preload_torch_cudnn"):
        load_transformer_engine(FLAGS)


@pytest.mark.parametrize(
    ("refuse", "says"),
    [
        (lambda: benchmark("--model", "llama-9"), r"pass --model [\w., -]*\.$"),
        (lambda: benchmark("--device", "cpu"), "pass --model tiny to try it on a CPU"),
        (lambda: benchmark("--model", "tiny", "--device", "cpu", ranks=3), "pass --tensor-parallel-gpus 1 or 2 or 4"),
        (
            lambda: benchmark("--model", "tiny", "--device", "cpu", "--prompt", "999999999"),
            "positions: pass smaller --batches, --context, --prompts, --prompt or --long",
        ),
        (
            lambda: benchmark("--model", "tiny", "--device", "cpu", "--batches", "999999999"),
            "bytes on each rank .* are free: pass smaller --batches, --context",
        ),
        (out_of_memory, "pass a smaller --chunk, --batches, --context, --prompts, --prompt or --long "),
        (old_gpu, "--precisions fp8 needs an NVIDIA GPU .* A100 has 8.0: pass --precisions bf16"),
        (no_transformer_engine, "--precisions fp8 needs Transformer Engine.* or pass --precisions fp8"),
        (lambda: _check_fp8_shape(shape_by_name("tiny", {"ffn": 12}), 1, FLAGS), "is 12: pass --precisions bf16"),
    ],
)
def test_what_the_engine_refuses_names_flags_that_the_benchmark_has(refuse: Callable[[], object], says: str) -> None:
    with pytest.raises(Refused, match=says) as refusal:
        refuse()
    known = {flag for action in parser()._actions for flag in action.option_strings}
    assert set(re.findall(r"--[a-z][\w-]+", str(refusal.value))) <= known


def test_a_dead_rank_ends_the_benchmark(tmp_path: Path) -> None:
    out, logs = tmp_path / "b.json", tmp_path / "logs"
    launch = [sys.executable, str(ROOT / "runners/llmval_runners/process/launch.py"), "--logs", str(logs)]
    command = [str(ROOT / "runners/engine_benchmark.py"), "--model", "tiny", "--device", "cpu", "--repeats", "100000"]
    agent = subprocess.Popen(
        [
            *launch,
            "--exit-codes",
            str(tmp_path / "ranks.json"),
            "--",
            "--nproc_per_node=2",
            *command,
            "--json",
            str(out),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 90
        progress = logs / "main.rank0.stderr.log"
        while not (progress.exists() and "measure" in progress.read_text()):
            assert agent.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        ranks = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        second = next(pid for pid in ranks if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes())
        os.kill(int(second), signal.SIGKILL)
        _, said = agent.communicate(timeout=300)
    finally:
        if agent.poll() is None:
            agent.terminate()
    assert agent.returncode == 1
    assert "rank 1 failed first: SIGKILL" in said
    assert not out.exists()


def test_a_rank_that_torchrun_itself_ended_is_not_what_failed_first() -> None:
    def failures(*codes: int) -> dict:
        return {rank: SimpleNamespace(exitcode=code, timestamp=100 + rank) for rank, code in enumerate(codes)}

    assert _first(failures(2, -signal.SIGTERM))[0] == 0
    assert _first(failures(1, -signal.SIGKILL))[0] == 1
    assert _first(failures(-signal.SIGTERM))[0] == 0


def test_the_all_reduce_goes_by_size_alone() -> None:
    def ran(choice: str, kib: float, dtype: torch.dtype = torch.bfloat16) -> str:
        return all_reduce.algorithm(choice, torch.empty(int(kib * 1024) // dtype.itemsize, dtype=dtype, device="meta"))

    assert [ran("auto", kib) for kib in (16, 128, 129, 1024, 1025)] == [
        "one-shot", "one-shot", "two-shot", "two-shot", "nccl",
    ]  # fmt: skip
    assert [ran(choice, 512) for choice in all_reduce.CHOICES] == ["nccl", "one-shot", "two-shot", "two-shot"]
    assert ran("one-shot", 16, torch.float32) == "nccl"
    assert ran("two-shot", 10 / 1024) == "nccl"  # no whole vectors


def test_a_window_counts_only_what_came_while_all_rows_were_full_and_others_waited() -> None:
    one, two, three = (Request(index, [0] * prompt, 9) for index, prompt in enumerate((10, 20, 30)))
    window = SaturatedWindow(batch=2)
    window.step([one], 1.0, True)
    window.step([one, two], 2.0, True)  # both rows have begun: it opens behind these
    window.step([one, two], 3.0, True)
    window.step([one, three], 5.0, True)
    window.step([two, three], 6.0, False)  # nobody waits any more
    assert (window.seconds, window.first, window.prompt, window.decoded) == (3.0, 1, 30, 3)
    assert window.context == (10 + 2) + (20 + 1) + (10 + 3)


@pytest.mark.parametrize(
    ("flags", "says"),
    [("--rows decode,prefil", "'prefil'"), ("--batches 1,x", "not a list of numbers"), ("--context 9", "above 16")],
)
def test_what_means_nothing_is_refused(flags: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        parse(flags.split())


def test_a_lagging_runner_gives_each_token_once_one_step_later(make_engine: Callable[..., Engine]) -> None:
    prompts, found = [[1, 2, 3], [4] * 30, [5]], []
    for lag in (0, 1):
        engine = make_engine()
        tokens: dict[int, list[int]] = {index: [] for index in range(3)}
        engine.channel.executor.lag = lag
        requests = [Request(index, prompt, 5) for index, prompt in enumerate(prompts)]
        for request in requests:
            engine.submit(request)
        first = engine.step()
        assert bool(first) == (lag == 0)
        steps = [first]
        while not engine.idle:
            steps.append(engine.step())
        for request, token, _ in (item for step in steps for item in step):
            tokens[request.index].append(token)
        assert [len(given) for given in tokens.values()] == [5, 5, 5]
        found.append(tokens)
    assert found[0] == found[1]
