"""The launcher and the load test as a person starts them: real processes, real ranks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fastjsonschema
import pytest
from llmval_runners.load_test.journal import journal_path
from llmval_runners.process import shutdown as stop
from llmval_runners.process.launch import first_failure_in_words

from llmval_tui.runs import termination
from tests.helpers.processes import until

ROOT = Path(__file__).parents[3]
WITHOUT_LIMITS = Path(__file__).with_name("children") / "without_limits.py"
LAUNCH = ROOT / "runners" / "llmval_runners" / "process" / "launch.py"
LOAD_TEST = ROOT / "runners" / "inference_server_load_test.py"


def launch(folder: Path, *arguments: str) -> list[str]:
    logs = ["--logs", str(folder / "logs"), "--exit-codes", str(folder / "ranks.json")]
    return [sys.executable, str(LAUNCH), *logs, "--", "--nproc_per_node=2", *arguments]


def ranks(folder: Path) -> dict[str, int]:
    return json.loads((folder / "ranks.json").read_text())["ranks"]


def test_a_load_test_over_two_ranks(tmp_path: Path) -> None:
    events, out = tmp_path / "events.jsonl", tmp_path / "new" / "out.json"
    load = [str(LOAD_TEST), "--model", "tiny", "--duration", "2", "--target-qps", "10", "--slo-ttft-ms", "60000"]
    command = launch(tmp_path, *load, "--attention-backend", "flex", "--output-json", str(out))
    ended = subprocess.run(command, env=os.environ | {"LLMVAL_EVENTS": str(events)}, timeout=120, check=False)
    assert ended.returncode == 0
    assert ranks(tmp_path) == {"0": 0, "1": 0}
    schemas = {
        name: json.loads((ROOT / f"docs/schemas/{name}.schema.json").read_text()) for name in ("load_test", "event")
    }
    result = fastjsonschema.compile(schemas["load_test"])(json.loads(out.read_text()))
    lines = [fastjsonschema.compile(schemas["event"])(json.loads(line)) for line in events.read_text().splitlines()]
    assert (result["completed"], result["failed"]) == (20, 0)
    assert result["total_output_tokens"] == 20 * 8
    assert result["llmval"]["identity"]["tensor_parallel"] == 2
    assert result["llmval"]["identity"]["all_reduce"] == "gloo"
    assert result["llmval"]["identity"]["attention_backend"] == "flex"
    assert result["request_goodput"] == result["request_throughput"]
    for request in result["llmval"]["requests"]:
        assert request["intended_s"] <= request["dispatch_s"] < request["first_token_s"] < request["last_token_s"]
    phases = [line["data"]["name"] for line in lines if line["kind"] == "phase"]
    assert [name for name in phases if name != "drain"] == ["setup", "load", "warmup", "measure", "report"]
    assert {line["rank"] for line in lines if line["kind"] == "heartbeat"} == {0, 1}
    assert next(line["data"]["path"] for line in lines if line["kind"] == "result") == str(out)


def test_a_search_over_two_ranks(tmp_path: Path) -> None:
    events, out = tmp_path / "events.jsonl", tmp_path / "out.json"
    load = [str(WITHOUT_LIMITS), "--model", "tiny", "--device", "cpu", "--target-qps", "6", "--trial-duration", "2"]
    search = ["--find-max-qps", "--max-qps", "9", "--slo-e2e-ms", "60000", "--output-json", str(out)]
    environment = os.environ | {"LLMVAL_EVENTS": str(events)}
    ended = subprocess.run(launch(tmp_path, *load, *search), env=environment, timeout=600, check=False)
    assert ended.returncode == 0
    schema = json.loads((ROOT / "docs/schemas/load_test.schema.json").read_text())
    ours = fastjsonschema.compile(schema)(json.loads(out.read_text()))["llmval"]
    found = ours["search"]
    assert (found["outcome"], found["max_qps"]) == ("cap_holds", 9)
    assert [(t["target_qps"], t["purpose"]) for t in found["trials"]][:2] == [(6, "bracket"), (9, "bracket")]
    assert {(t["target_qps"], t["purpose"]) for t in found["trials"][2:]} == {(9, "confirm")}
    assert all(t["completed"] == t["requests"] == 2 * t["target_qps"] for t in found["trials"])
    last = found["trials"][-1]
    assert (ours["workload"]["seed"], len(ours["requests"])) == (last["seed"], 18), "the record is the last trial's"
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    shown = [line["data"]["trial_qps"] for line in lines if "trial_qps" in line["data"]]
    assert shown == [6, 9, 9]
    phases = [line["data"]["name"] for line in lines if line["kind"] == "phase" and line["data"]["name"] != "drain"]
    assert phases == ["setup", "load", *["warmup", "measure"] * 3, "report"], "each trial starts warm, on one engine"


@pytest.mark.parametrize(
    "signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT, signal.SIGTERM], ["kill rank 1"], ["kill rank 0"]]
)
def test_ending_it_early_leaves_the_record_and_no_rank(tmp_path: Path, signals: list) -> None:
    events, out = tmp_path / "events.jsonl", tmp_path / "out.json"
    journal = journal_path(out)
    load = [str(LOAD_TEST), "--model", "tiny", "--duration", "60", "--target-qps", "10", "--output-json", str(out)]
    agent = subprocess.Popen(
        launch(tmp_path, *load), env=os.environ | {"LLMVAL_EVENTS": str(events)}, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 180
    while not (events.exists() and '"metrics"' in events.read_text()):
        assert agent.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    by_rank = {_rank(pid): int(pid) for pid in children if _rank(pid)}
    for number in signals:
        if str(number).startswith("kill"):
            until(lambda: journal.read_text().count('"tokens"') > 10, "the end of some requests, in the journal")
            os.kill(by_rank[number[-1]], signal.SIGKILL)
        elif agent.poll() is None:
            agent.send_signal(number)
            time.sleep(0.1)
    agent.wait(timeout=120)
    assert not any(Path(f"/proc/{pid}").exists() for pid in by_rank.values())
    partial = json.loads((tmp_path / "out.partial.json").read_text())
    assert not out.exists()
    assert partial["llmval"]["partial"] and not partial["llmval"]["valid"]
    record = json.loads((tmp_path / "ranks.json").read_text())
    assert not list(tmp_path.glob("*.jsonl")) or list(tmp_path.glob("*.jsonl")) == [events], "no journal stays"
    if str(signals[0]).startswith("kill"):
        dead = signals[0][-1]
        assert agent.returncode == 1
        assert record["ranks"][dead] == -signal.SIGKILL
        assert (record["first_failure"]["rank"], record["first_failure"]["how"]) == (int(dead), "SIGKILL")
        told = events.read_text()  # on a busy machine gloo does not always notice that a peer is gone
        assert '"dead_rank"' in told or "received signal 15 and was stuck" in told
        fastjsonschema.compile(json.loads((ROOT / "docs/schemas/load_test.schema.json").read_text()))(partial)
        done = [request for request in partial["llmval"]["requests"] if request["error"] is None]
        assert partial["completed"] == len(done) > 3
        kept = [len(gaps) for gaps, error in zip(partial["itls"], partial["errors"], strict=True) if not error]
        assert kept == [7] * len(done), "every token's time is kept"
    else:
        assert agent.returncode == 128 + signals[0]
        assert record["ranks"] == dict.fromkeys(("0", "1"), 128 + signals[0])


RANK = """
import os, signal, sys, time
from pathlib import Path
from llmval_runners.process.shutdown import StopSignals

stop, folder, rank = StopSignals(lambda number: (folder / "stuck").touch(), 0.3), Path(sys.argv[1]), os.environ["RANK"]
stop.install() if rank == "0" else signal.signal(signal.SIGINT, signal.SIG_IGN)
(folder / f"up.{rank}").touch()
while stop.number is None:
    time.sleep(0.05)
with stop.protect_write():
    time.sleep(2)
    (folder / "record").touch()
stop.done()
os._exit(stop.exit_code)
"""


def test_a_rank_that_writes_its_record_is_given_time(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    hasty = """import sys
from llmval_runners.process import launch
launch.SHUTDOWN_S = 1
sys.exit(launch.main(sys.argv[1:]))"""
    argv = launch(tmp_path, str(script), str(tmp_path))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "runners")}
    agent = subprocess.Popen([sys.executable, "-c", hasty, *argv[2:]], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 180
    while len(list(tmp_path.glob("up.*"))) < 2:
        assert agent.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    agent.send_signal(signal.SIGINT)
    agent.wait(timeout=120)
    assert (tmp_path / "record").exists(), "longer than the agent waits for a rank that writes nothing"
    assert not (tmp_path / "stuck").exists(), "who writes is not taken for stuck"
    assert ranks(tmp_path) == {"0": 130, "1": -signal.SIGKILL}


def test_all_who_stop_a_run_look_for_the_name_that_a_writer_has() -> None:
    assert len(stop.SAVING) <= 15, "the kernel cuts it there"
    assert stop.SAVING == termination.SAVING


def _rank(pid: str) -> str:
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((item[5:].decode() for item in environment if item.startswith(b"RANK=")), "")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--fp8-mode transformer-engine --device cpu", "pass --fp8-mode none"),
        ("--device cpu", "llama-3.1-8b, the default model, has 8.0 B parameters"),
        ("--model tiny --device cpu --kv-tokens 32", "bytes of KV cache"),
        (
            "--model tiny --device cpu --kv-tokens 900000000000",
            "2 × 2 layers × 4 KV heads × 16 × 4 bytes = 1,024 bytes each) and ",
        ),
        ("--model tiny --duratoin 3", "--duratoin"),
        ("--model tiny --device cpu --attention-backend fa3", "choose from"),
        ("--model tiny --device cpu --find-max-qps", "pass --slo-ttft-ms"),
        ("--model tiny --device cpu --find-max-qps --slo-ttft-ms 9 --profile nsys", "leave one of the two out"),
        ("--model tiny --device cpu --prompt-len 9:3", "not a length distribution"),
        ("--model tiny --device cpu --output-json /proc/nowhere/x.json", "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    flags: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmval_runners.load_test.main import main

    class Exit(Exception):
        pass

    def leave(code: int) -> None:
        raise Exit(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.delenv("LLMVAL_EVENTS", raising=False)
    with pytest.raises(Exit, match="2"):
        main(flags.split())
    said = capsys.readouterr().err
    assert said.count("refused:") == 1 and says in said


def test_a_refusal_of_the_ranks_is_told_as_one(tmp_path: Path) -> None:
    """Rank 0 says it and the agent ends the rest: the exit code and the record name rank 0, not who was ended."""
    command = [sys.executable, str(LAUNCH), "--logs", str(tmp_path / "logs"), "--exit-codes", str(tmp_path / "r.json")]
    load = ["--nproc_per_node=3", str(LOAD_TEST), "--model", "tiny", "--device", "cpu"]
    ended = subprocess.run([*command, "--", *load], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 2
    assert "rank 0 refused to run (exit code 2); its output is in" in ended.stderr
    first = json.loads((tmp_path / "r.json").read_text())["first_failure"]
    assert (first["rank"], first["exit_code"]) == (0, 2)
    said = (tmp_path / "logs" / "main.rank0.stderr.log").read_text().splitlines()
    why = "tiny cannot be split over 3 ranks, because its query heads (8) are not divisible by 3"
    assert said == [f"refused: {why}: pass --nproc_per_node 1 or 2 or 4 or 8."]


def test_an_inconclusive_run_is_not_told_as_a_failure() -> None:
    def words(code: int) -> str:
        return first_failure_in_words({"first_failure": {"rank": 0, "exit_code": code, "how": f"exit code {code}"}})

    assert words(3) == "rank 0 called its measurement invalid or inconclusive (exit code 3)"
    assert words(1) == "rank 0 failed first: exit code 1"


def test_a_shape_that_fp8_cannot_take_is_refused_with_the_size() -> None:
    from llmval_runners.engine.config import _check_fp8_shape
    from llmval_runners.engine.settings import FlagNames
    from llmval_runners.engine.shapes import shape_by_name
    from llmval_runners.process.errors import Refused

    _check_fp8_shape(shape_by_name("llama-3.1-8b", {}), 8, FlagNames())
    with pytest.raises(Refused, match=r"FFN width of llama-3\.1-8b-custom on each of 2 ranks is 7172: pass --fp8-mode"):
        _check_fp8_shape(shape_by_name("llama-3.1-8b", {"ffn": 14344}), 2, FlagNames())


def test_memory_that_runs_out_is_told_by_the_kv_formula() -> None:
    import torch
    from llmval_runners.engine import loader as executor
    from llmval_runners.load_test.config import configure_load_test
    from llmval_runners.load_test.options import parse
    from llmval_runners.process.placement import Placement

    config = configure_load_test(parse(["--model", "tiny", "--device", "cpu"]), Placement(0, 2, 0, 2, 2))[0]
    said = executor.out_of_memory(config, 3 * 2**30, torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB\nmore"))
    assert "2 × 2 layers × 4 KV heads × 16 × 4 bytes / 2 ranks = 512 bytes of KV cache a token" in said
    assert "3.0 GiB were free" in said and said.endswith("(CUDA out of memory. Tried 2 GiB).")


def test_the_launcher_keeps_the_output_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "main.rank0.stdout.log").write_text("evidence")
    ended = subprocess.run(launch(tmp_path, "x.py"), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "pass another --label" in ended.stderr
    assert (tmp_path / "logs" / "main.rank0.stdout.log").read_text() == "evidence"
