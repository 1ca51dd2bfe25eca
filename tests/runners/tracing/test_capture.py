"""Which commands capture a trace, what is refused before any runs, and the script itself."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from llmval_runners.process.errors import Refused
from llmval_runners.tracing import capture, options
from llmval_runners.tracing.commands import CaptureSetup, Paths
from llmval_runners.tracing.options import TraceOptions

from tests.helpers.runners.traces import ROOT, load_result, nsys_export, schema

SCRIPT = ROOT / "runners" / "capture_fp8_flexattention_traces.sh"


def parsed(folder: Path, *words: str) -> TraceOptions:
    return options.parse(["--output-dir", str(folder / "out"), *words])


NODE = {
    "gpus": 8,
    "fp8": True,
    "torch": "2.11",
    "cuda": "13.0",
    "transformer_engine": None,
    "transformer_engine_problem": "no .so",
}


def setup_of(folder: Path, *words: str, profiler: str = "nsys", **node: Any) -> CaptureSetup:
    chosen = parsed(folder, *words)
    return capture.resolve(chosen, NODE | node, Paths(chosen.output_dir), profiler)


def test_the_environment_and_flags_change_the_checklists_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = setup_of(tmp_path).launch_command()
    line = " ".join(words)
    for part in (
        "--nproc-per-node 8",
        "--duration 60",
        "--target-qps 28",
        "--attention-backend flex",
        "--profile nsys",
    ):
        assert part in line
    monkeypatch.setenv("TRACE_DURATION", "7")
    monkeypatch.setenv("TRACE_TENSOR_PARALLEL_GPUS", "4")
    words = setup_of(tmp_path, "--tensor-parallel-gpus", "2", "--kv-dtype", "fp8").launch_command()
    line = " ".join(words)
    assert "--nproc-per-node 2 " in line
    assert "--duration 7 " in line
    assert line.endswith("--kv-dtype fp8"), "flags that only the load test knows are passed on"
    monkeypatch.setenv("TRACE_PROFILER", "perf")
    with pytest.raises(Refused, match="perf"):
        setup_of(tmp_path)


def test_nsys_comes_before_torchrun_and_captures_the_marked_window(tmp_path: Path) -> None:
    words = setup_of(tmp_path).profile_command()
    program = words.index(sys.executable)
    assert words[:2] == ["nsys", "profile"]
    assert {"--trace=cuda,nvtx", "--capture-range=cudaProfilerApi", "--capture-range-end=stop"} <= set(words[:program])
    assert "--cuda-graph-trace=node" in words[:program]
    assert f"--output={tmp_path}/out/trace" in words[:program]
    assert setup_of(tmp_path, profiler="torch").profile_command()[0] == sys.executable


def test_within_a_run_the_launcher_keeps_the_ranks_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "torch.distributed.run" in setup_of(tmp_path).launch_command()
    monkeypatch.setenv("LLMVAL_RUN_FOLDER", "/runs/1")
    words = setup_of(tmp_path).launch_command()
    assert "/runs/1/logs" in words
    assert "/runs/1/ranks.main.json" in words


def test_automatic_choices_are_noted(tmp_path: Path) -> None:
    node: dict[str, Any] = {"gpus": 6}
    setup = setup_of(tmp_path, **node)
    assert (setup.ranks, setup.fp8_mode) == (4, "native")
    notes = " ".join(capture.notes(setup, NODE | node))
    assert "4 of 6 GPUs" in notes
    assert "became native, since Transformer Engine does not load (no .so)" in notes
    assert setup_of(tmp_path, transformer_engine="2.20").fp8_mode == "transformer-engine"
    assert setup_of(tmp_path, "--device", "cpu", profiler="torch").fp8_mode == "none"
    old = setup_of(tmp_path, fp8=False, transformer_engine="2.20")
    assert old.fp8_mode == "none" and "have no FP8" in " ".join(capture.notes(old, NODE | {"fp8": False}))
    with pytest.raises(Refused, match="no GPU here"):
        setup_of(tmp_path, gpus=0)
    with pytest.raises(Refused, match="pass 6 or fewer"):
        setup_of(tmp_path, "--tensor-parallel-gpus", "8", **node)


@pytest.mark.parametrize(
    ("words", "tools", "why"),
    [
        ((), (), "nsys is not on the PATH"),
        ((), ("nsys",), None),
        (("--profiler", "torch"), ("nsys",), "asked for by --profiler torch"),
        (("--profiler", "torch"), (), "nsys is not on the PATH"),
        (("--device", "cpu"), ("nsys",), "the run is on a CPU"),
    ],
)
def test_which_profiler_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], tools: tuple[str, ...], why: str | None
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name if name in tools else None)
    chosen = parsed(tmp_path, *words)
    assert capture._check(chosen, Paths(chosen.output_dir)) == why


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--profiler", "nsys"), "install it, or pass --profiler torch"),
        (("--ncu",), "ncu is not on the PATH"),
        (("--profiler", "nsys", "--device", "cpu"), "--device is cpu"),
        (("--duration", "0"), "not above 0"),
    ],
)
def test_refusals_run_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(subprocess, "run", None)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert capture.main(["--output-dir", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_flag_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(capture, "_probe", lambda: NODE)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert capture.main(["--output-dir", str(tmp_path / "out"), "--profiler", "torch", "--nonsense", "4"]) == 2
    assert "--nonsense 4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_earlier_trace_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trace.json.gz").touch()
    assert capture.main(["--output-dir", str(tmp_path), "--device", "cpu"]) == 2
    assert "pass another --output-dir" in capsys.readouterr().err


def test_a_capture_with_nsys_from_end_to_end_with_fake_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernels = [(0, 100_000, 0, "nvjet_a"), (0, 50_000, 1, "ncclDevKernel_AllReduce")]

    def run(argv: list[str], commands: list[str], name: str, *_: Any, **__: Any) -> None:
        commands.append(argv[0])
        paths = Paths(tmp_path / "out")
        if argv[:2] == ["nsys", "profile"]:
            paths.nsys.write_bytes(b"report")
            paths.result.write_text(json.dumps(load_result(profiler="nsys", ranks="all")))
        elif argv[:2] == ["nsys", "export"]:
            nsys_export(paths.folder, kernels)
        elif argv[0] == "ncu":
            raise capture.CaptureFailed("the pass of Nsight Compute ended with exit code 9: see its output above.", 9)

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(capture, "_probe", lambda: NODE)
    monkeypatch.setattr(capture, "_nsys_version", lambda: "2025.3.1")
    monkeypatch.setattr(capture, "_run", run)
    assert capture.main(["--output-dir", str(tmp_path / "out"), "--ncu"]) == 1, "the requested ncu report is missing"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    schema()(summary)
    assert summary["tool"] == {"name": "nsys", "version": "2025.3.1", "why": None}
    assert [one["device"] for one in summary["devices"]] == ["0", "1"]
    assert [one["name"] for one in summary["files"]] == ["trace.nsys-rep", "load_test.json"]
    assert any("Nsight Compute" in note for note in summary["notes"])
    assert not (tmp_path / "out" / "trace.sqlite").exists()


def test_the_progress_bars_of_nsys_stay_out_of_a_log(tmp_path: Path) -> None:
    bar = b"".join(b"\r[1/1] [%d%%        ] trace.nsys-rep" % share for share in range(101))
    done = b"\r[1/1] [========================100%] trace.nsys-rep\n"
    said = b"Capture range ended.\n" + b"x" * 70_000 + b"\nGenerating 'a.qdstrm'\n"
    source, end = os.pipe()

    def write() -> None:
        with os.fdopen(end, "wb") as pipe:
            pipe.write(said + bar + done + b"Generated:\n\tb\r\nlast")

    writer = threading.Thread(target=write)
    writer.start()
    with (tmp_path / "log").open("wb") as log:
        capture.copy_without_bars(source, log.fileno())
    writer.join()
    os.close(source)
    assert (tmp_path / "log").read_bytes() == said + b"\nGenerated:\n\tb\r\nlast"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["the load", "the export", "reading", "ncu"])
def test_a_signal_ends_the_capture_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str, number: int
) -> None:
    """Small programs replace the tools. Each writes its name; the one named `where` first signals the capture."""
    paths, ran = Paths(tmp_path / "out"), tmp_path / "ran"
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def program(name: str) -> list[str]:
        hit = f"import os, time; os.kill(os.getppid(), {int(number)}); time.sleep(20)" if name == where else ""
        return [sys.executable, "-c", f"open({str(ran)!r}, 'a').write({name!r} + ',')\n{hit}"]

    def result(_: CaptureSetup) -> tuple[dict[str, Any], list[str]]:
        paths.sqlite.touch()
        return load_result(profiler="nsys", ranks="all"), []

    def read(*_: Any) -> None:
        if where == "reading":
            os.kill(os.getpid(), number)

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(capture, "_probe", lambda: NODE)
    monkeypatch.setattr(capture, "_nsys_version", lambda: "2025.3.1")
    monkeypatch.setattr(capture, "_read_result", result)
    monkeypatch.setattr(capture, "read_nsys", read)
    for method, name in (
        ("profile_command", "the load"),
        ("export_command", "the export"),
        ("ncu_command", "ncu"),
    ):
        monkeypatch.setattr(CaptureSetup, method, lambda self, name=name: program(name))
    assert capture.main(["--output-dir", str(paths.folder), "--ncu"]) == 128 + number
    steps = ["the load", "the export", "reading", "ncu"]
    assert ran.read_text().split(",")[:-1] == [name for name in steps[: steps.index(where) + 1] if name != "reading"]
    assert f"ended by {signal.Signals(number).name}" in capsys.readouterr().err
    assert not paths.summary.exists()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_no_program_starts_after_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    with capture.SignalForwarder() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(capture.CaptureFailed, match="before the export, was ended by SIGTERM") as failed:
            capture._run(["true"], [], "the export", signals)
    assert failed.value.code == 143


def test_the_script_traces_a_load_on_a_cpu(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--model", "tiny", "--duration", "2", "--target-qps", "6", "--trace-seconds", "1.5"]
    done = subprocess.run(
        ["bash", str(SCRIPT), "--python", sys.executable, *words, "--output-dir", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    schema()(summary)
    assert summary["unit"] == "operators"
    assert summary["window"]["steps"] > 0
    assert summary["shares"]["gemm"] > 0
    names = {one["name"] for one in summary["ranges"]}
    assert names & {"decode step", "prefill and decode"}
    result = json.loads((tmp_path / "out" / "load_test.json").read_text())["llmval"]
    assert "a profiler ran" in " ".join(result["invalid_reasons"]), "its figures are no baseline"
    with gzip.open(tmp_path / "out" / "trace.json.gz") as file:
        assert json.load(file)["traceEvents"]


def test_the_script_alone_names_what_is_missing(tmp_path: Path) -> None:
    copy = tmp_path / SCRIPT.name
    copy.write_bytes(SCRIPT.read_bytes())
    for words, said in ((["bash", str(copy)], "llmval_runners"), (["bash", str(SCRIPT), "--python", "/no"], "no /no")):
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 2
        assert said in done.stderr
