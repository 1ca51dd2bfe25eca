"""The engine benchmark as a person starts it, on a CPU, and what a lag of one step means for the engine."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fastjsonschema
import pytest
from llmval_runners.benchmark_options import parse
from llmval_runners.engine import Engine
from llmval_runners.refusal import Refused
from llmval_runners.request import Request

ROOT = Path(__file__).parents[2]


def test_every_row_on_a_cpu_keeps_the_schema(tmp_path: Path) -> None:
    out = tmp_path / "new" / "b.json"
    rows = "decode,prefill,long,saturated"
    command = [sys.executable, str(ROOT / "runners/engine_benchmark.py"), "--model", "tiny", "--device", "cpu"]
    command += ["--backends", "sdpa", "--rows", rows, "--repeats", "1", "--json", str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(out.read_text())
    fastjsonschema.compile(json.loads((ROOT / "docs/schemas/engine_benchmark.schema.json").read_text()))(result)
    named = [(row["row"], row["batch"]) for row in result["rows"]]
    assert named == [
        ("decode", 1),
        ("decode", 4),
        ("prefill", 2),
        ("long prefill", 1),
        ("long decode", 1),
        ("saturated", 4),
    ]


@pytest.mark.parametrize(
    ("flags", "says"),
    [("--rows decode,prefil", "'prefil'"), ("--batches 1,x", "no list of numbers"), ("--context 9", "above 16")],
)
def test_what_means_nothing_is_refused(flags: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        parse(flags.split())


def test_a_lagging_runner_gives_each_token_once_one_step_later(make_engine: Callable[..., Engine]) -> None:
    prompts, found = [[1, 2, 3], [4] * 30, [5]], []
    for lag in (0, 1):
        engine, tokens = make_engine(), {index: [] for index in range(3)}
        engine.link.runner.lag = lag
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
