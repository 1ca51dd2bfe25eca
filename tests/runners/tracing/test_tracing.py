"""From a trace to its summary: what is read, how it is named and summed, and which commands capture it."""

import ast
import gzip
import json
import sqlite3
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmval_runners import ranges
from llmval_runners.plan import TRACE, StepPlan
from llmval_runners.profiling import MOST_STEPS, Profiler
from llmval_runners.refusal import Refused
from llmval_runners.tracing import capture, options
from llmval_runners.tracing.chrome import read_chrome
from llmval_runners.tracing.classify import ATTENTION, COMMUNICATION, GEMM, OTHER, OWN, group_of
from llmval_runners.tracing.commands import Paths, Setup
from llmval_runners.tracing.nsys import read_nsys
from llmval_runners.tracing.summary import sentence, summary_of
from llmval_runners.tracing.timeline import device_of

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "runners" / "capture_fp8_flexattention_traces.sh"


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", COMMUNICATION),
        ("void (anonymous namespace)::one_shot_all_reduce_kernel<c10::BFloat16, 16, 2, true>(...)", COMMUNICATION),
        ("void (anonymous namespace)::two_shot_all_reduce_kernel_inplace<c10::BFloat16, 16, 4>(...)", COMMUNICATION),
        ("gloo:all_reduce", COMMUNICATION),
        ("c10d::allreduce_", COMMUNICATION),
        ("_decode", ATTENTION),
        ("llmval_runners.paged_decode._combine", ATTENTION),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1_kernel0_0", ATTENTION),
        ("void flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<128, 64, 128, 4, false, false>>(...)", ATTENTION),
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4>>(...)", ATTENTION),
        ("triton_tem_fused_flex_attention_0", ATTENTION),
        ("triton_tem_fused_flex_decoding_1", ATTENTION),
        ("fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel<...>::Params)", ATTENTION),
        ("void cutlass::device_kernel<flash::FlashAttnFwdSm90<flash::CollectiveMainloopFwdSm90<2>>>(...)", ATTENTION),
        ("VmappedVmappedVmappedVmappedModIndex", ATTENTION),
        ("nvjet_tst_192x192_64x4_2x1_v_bz_coopB_TNT", GEMM),
        ("nvjet_qqtst_128x256_128x4_2x1_v_bz_TNN", GEMM),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_kernel", GEMM),
        ("void cutlass::device_kernel<at::cuda::detail::enable_3x_kernel_for_sm9x<cutlass::gemm::kernel::Gemm>>", GEMM),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16>(...)", GEMM),
        ("std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, __nv_bfloat16>(...)", GEMM),
        ("triton_tem_fused_mm_3", GEMM),
        ("_few", GEMM),
        ("aten::addmm", GEMM),
        ("triton_red_fused_add_mean_mul_rsqrt_0", OTHER),
        ("void at::native::vectorized_elementwise_kernel<8, at::native::CUDAFunctor_add<c10::BFloat16>>(...)", OTHER),
        ("_norm", OTHER),
        ("_rotate_write", OTHER),
        ("my_decode", OTHER),
    ],
)
def test_what_a_name_says(name: str, group: str) -> None:
    assert group_of(name) == group


def jit_functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / "runners" / "llmval_runners" / file).read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(one) == "triton.jit" for one in node.decorator_list)
    }


def test_the_engines_own_kernels_are_known_by_their_functions_names() -> None:
    """A renamed or added kernel of attention or of a product would else be counted as other."""
    assert {name for name, group in OWN.items() if group == GEMM} == jit_functions("stream_linear.py")
    attention = {name for name, group in OWN.items() if group == ATTENTION}
    assert (
        jit_functions("paged_decode.py") <= attention <= jit_functions("paged_decode.py") | jit_functions("kernels.py")
    )


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), min_size=1))
def test_a_busy_moment_counts_once(found: list[tuple[int, int]]) -> None:
    intervals = sorted((start, start + length) for start, length in found)
    device = device_of("0", intervals)
    busy = {moment for start, end in intervals for moment in range(start, end)}
    assert device.busy_ns == len(busy)
    assert device.kernel_ns == sum(end - start for start, end in intervals)
    assert device.span_ns == max(end for _, end in intervals) - intervals[0][0]
    assert device.kernels == len(intervals)


def event(cat: str, name: str, ts: float, dur: float, **rest: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "tid": 1, **rest}


def chrome(folder: Path, events: list[dict[str, Any]]) -> Path:
    path = folder / "trace.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": events}).encode()))
    return path


GPU_EVENTS = [
    event("kernel", "nvjet_tst_64x8", 100.0, 50.0, args={"device": 0, "stream": 7}),
    event("kernel", "ncclDevKernel_AllReduce_Sum_bf16_RING_LL", 140.0, 20.0, args={"device": 0, "stream": 9}),
    event("kernel", "nvjet_tst_64x8", 180.0, 20.0, args={"device": 0, "stream": 7}),
    event("gpu_memcpy", "Memcpy DtoH", 170.0, 2.0, args={"device": 0}),
    event("user_annotation", "decode step", 90.0, 120.0),
    event("user_annotation", "ProfilerStep#1", 90.0, 120.0),
    event("cpu_op", "aten::linear", 90.0, 12.0),
    {"ph": "s", "cat": "ac2g", "name": "ac2g", "ts": 90.0},
]


def load_result(**window: Any) -> dict[str, Any]:
    return {
        "completed": 3,
        "failed": 0,
        "output_throughput": 100.0,
        "llmval": {
            "partial": False,
            "identity": {
                "model": "tiny", "attention_backend": "flex", "fp8_mode": "none", "tensor_parallel": 2,
                "device": "cuda", "device_name": "NVIDIA H200",
            },
            "workload": {"target_qps": 1.0, "duration_s": 4.0, "prompt_len": "512", "output_len": "8"},
            "trace": {
                "profiler": "torch", "begin_s": 1.0, "seconds": 200e-6, "steps": 1, "ended_by": "the end", "ranks": "0",
                "ranges": list(ranges.NAMES), **window,
            },
        },
    }  # fmt: skip


def schema() -> Any:
    return fastjsonschema.compile(json.loads((ROOT / "docs/schemas/trace_summary.schema.json").read_text()))


def test_the_summary_of_a_chrome_trace(tmp_path: Path) -> None:
    path = chrome(tmp_path, GPU_EVENTS)
    timeline = read_chrome(path, ranges.NAMES)
    load = load_result()
    tool = {"name": "torch", "version": "2.11.0", "why": "nsys is not on the PATH"}
    summary = summary_of(timeline, load, tool=tool, commands=["x"], files=[path])
    summary |= {"versions": {"torch": "2", "cuda": None, "transformer_engine": None}, "notes": []}
    schema()(summary)
    assert summary["unit"] == "kernels"
    assert summary["calls"] == 3
    assert summary["total_ms"] == pytest.approx(0.090)
    assert summary["shares"] == pytest.approx({COMMUNICATION: 20 / 90, ATTENTION: 0, GEMM: 70 / 90, OTHER: 0})
    assert summary["gpu_busy_share"] == pytest.approx(80 / 200), "60 µs of two that overlap, and 20"
    top = summary["top"][0]
    assert (top["name"], top["calls"], top["mean_us"]) == ("nvjet_tst_64x8", 2, pytest.approx(35.0))
    assert [(one["name"], one["calls"]) for one in summary["ranges"]] == [("decode step", 1)]
    assert "communication 22.2%" in sentence(summary)


def test_operators_have_the_time_that_is_their_own(tmp_path: Path) -> None:
    events = [
        event("cpu_op", "aten::linear", 0.0, 100.0),
        event("cpu_op", "aten::addmm", 10.0, 60.0),
        event("cpu_op", "aten::copy_", 20.0, 5.0),
        event("cpu_op", "aten::copy_", 80.0, 10.0),
        event("cpu_op", "aten::add", 100.0, 7.0),
        event("cpu_op", "aten::add", 50.0, 3.0, tid=2),
        event("user_annotation", "gloo:all_reduce", 50.0, 30.0, tid=3),
    ]
    timeline = read_chrome(chrome(tmp_path, events), ranges.NAMES)
    assert timeline.unit == "operators"
    us = {name: one.ns / 1e3 for name, one in timeline.work.items()}
    assert us == {
        "aten::linear": 30.0, "aten::addmm": 55.0, "aten::copy_": 15.0, "aten::add": 10.0, "gloo:all_reduce": 30.0
    }  # fmt: skip
    assert not timeline.devices


def nsys_export(folder: Path, kernels: list[tuple[int, int, int, str]]) -> Path:
    path = folder / "trace.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT)")
        database.execute("CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, text TEXT, textId INTEGER)")
        database.execute("INSERT INTO StringIds VALUES (99, 'prefill')")
        events = [(0, 5, "decode step", None), (6, 9, None, 99), (9, None, "decode step", None), (1, 2, "other", None)]
        database.executemany("INSERT INTO NVTX_EVENTS VALUES (?, ?, ?, ?)", events)
        if kernels:
            database.execute(
                "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL "
                "(start INTEGER, end INTEGER, deviceId INTEGER, demangledName INTEGER)"
            )
        for number, (start, end, device, name) in enumerate(kernels):
            database.execute("INSERT INTO StringIds VALUES (?, ?)", (number, name))
            row = (start, end, device, number)
            database.execute("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, ?, ?)", row)
    database.close()
    return path


def test_an_nsys_export_has_every_gpu(tmp_path: Path) -> None:
    kernels = [(1500, 2000, 1, "b"), (0, 1000, 0, "a"), (500, 1500, 0, "b"), (0, 1000, 1, "a")]
    timeline = read_nsys(nsys_export(tmp_path, kernels), ranges.NAMES)
    assert {name: (one.calls, one.ns) for name, one in timeline.work.items()} == {"a": (2, 2000), "b": (2, 1500)}
    assert [(one.name, one.busy_ns) for one in timeline.devices] == [("0", 1500), ("1", 1500)]
    assert {name: one.calls for name, one in timeline.ranges.items()} == {"decode step": 1, "prefill": 1}


def test_a_trace_without_kernels_is_empty_and_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = nsys_export(tmp_path, [])
    assert not read_nsys(path, ranges.NAMES).work
    path.write_bytes(b"x" * 200)
    with pytest.raises(Refused, match="no export of nsys"):
        read_nsys(path, ranges.NAMES)
    broken = chrome(tmp_path, GPU_EVENTS)
    broken.write_bytes(broken.read_bytes()[:-20])
    with pytest.raises(Refused, match="no Chrome trace"):
        read_chrome(broken, ranges.NAMES)


def asked(folder: Path, *words: str) -> tuple[Namespace, list[str]]:
    return options.parse(["--output-dir", str(folder / "out"), *words])


NODE = {
    "gpus": 8,
    "fp8": True,
    "torch": "2.11",
    "cuda": "13.0",
    "transformer_engine": None,
    "transformer_engine_problem": "no .so",
}


def setup_of(folder: Path, *words: str, profiler: str = "nsys", **node: Any) -> Setup:
    chosen, extra = asked(folder, *words)
    return capture.decide(chosen, extra, NODE | node, Paths(chosen.output_dir), profiler)


def test_defaults_are_the_lists_and_the_environment_and_flags_change_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = setup_of(tmp_path).launch()
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
    words = setup_of(tmp_path, "--tensor-parallel-gpus", "2", "--kv-dtype", "fp8").launch()
    line = " ".join(words)
    assert "--nproc-per-node 2 " in line
    assert "--duration 7 " in line
    assert line.endswith("--kv-dtype fp8"), "what only the load test knows is handed on"
    monkeypatch.setenv("TRACE_PROFILER", "perf")
    with pytest.raises(Refused, match="perf"):
        setup_of(tmp_path)


def test_nsys_comes_before_torchrun_and_captures_the_marked_window(tmp_path: Path) -> None:
    words = setup_of(tmp_path).trace()
    program = words.index(sys.executable)
    assert words[:2] == ["nsys", "profile"]
    assert {"--trace=cuda,nvtx", "--capture-range=cudaProfilerApi", "--capture-range-end=stop"} <= set(words[:program])
    assert "--cuda-graph-trace=node" in words[:program]
    assert f"--output={tmp_path}/out/trace" in words[:program]
    assert setup_of(tmp_path, profiler="torch").trace()[0] == sys.executable


def test_within_a_run_the_launcher_keeps_the_ranks_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "torch.distributed.run" in setup_of(tmp_path).launch()
    monkeypatch.setenv("LLMVAL_RUN_FOLDER", "/runs/1")
    words = setup_of(tmp_path).launch()
    assert "/runs/1/logs" in words
    assert "/runs/1/ranks.main.json" in words


def test_what_is_decided_is_said(tmp_path: Path) -> None:
    node = {"gpus": 6}
    setup = setup_of(tmp_path, **node)
    assert (setup.ranks, setup.fp8) == (4, "native")
    told = " ".join(capture.notes(setup.options, setup, NODE | node))
    assert "4 of 6 GPUs" in told
    assert "became native, since Transformer Engine does not load (no .so)" in told
    assert setup_of(tmp_path, transformer_engine="2.20").fp8 == "transformer-engine"
    assert setup_of(tmp_path, "--device", "cpu", profiler="torch").fp8 == "none"
    old = setup_of(tmp_path, fp8=False, transformer_engine="2.20")
    assert old.fp8 == "none" and "have no FP8" in " ".join(capture.notes(old.options, old, NODE | {"fp8": False}))
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
    monkeypatch.setattr(capture.shutil, "which", lambda name: name if name in tools else None)
    chosen, _ = asked(tmp_path, *words)
    assert capture._check(chosen, Paths(chosen.output_dir)) == why


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--profiler", "nsys"), "install Nsight Systems"),
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
    monkeypatch.setattr(capture.shutil, "which", lambda name: None)
    monkeypatch.setattr(capture.subprocess, "run", None)
    monkeypatch.setattr(capture.subprocess, "Popen", None)
    assert capture.main(["--output-dir", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_flag_that_nobody_knows_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(capture, "_probe", lambda: NODE)
    monkeypatch.setattr(capture.subprocess, "Popen", None)
    assert capture.main(["--output-dir", str(tmp_path / "out"), "--profiler", "torch", "--nonsense", "4"]) == 2
    assert "--nonsense 4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_earlier_trace_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trace.json.gz").touch()
    assert capture.main(["--output-dir", str(tmp_path), "--device", "cpu"]) == 2
    assert "name another --output-dir" in capsys.readouterr().err


def test_a_capture_with_nsys_from_end_to_end_but_for_its_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernels = [(0, 100_000, 0, "nvjet_a"), (0, 50_000, 1, "ncclDevKernel_AllReduce")]

    def run(argv: list[str], commands: list[str], what: str, **_: Any) -> None:
        commands.append(argv[0])
        paths = Paths(tmp_path / "out")
        if argv[:2] == ["nsys", "profile"]:
            paths.nsys.write_bytes(b"report")
            paths.result.write_text(json.dumps(load_result(profiler="nsys", ranks="all")))
        elif argv[:2] == ["nsys", "export"]:
            nsys_export(paths.folder, kernels)
        elif argv[0] == "ncu":
            raise capture.Failed("the pass of Nsight Compute ended with exit code 9: its last words are above.", 9)

    monkeypatch.setattr(capture.shutil, "which", lambda name: name)
    monkeypatch.setattr(capture, "_probe", lambda: NODE)
    monkeypatch.setattr(capture, "_nsys_version", lambda: "2025.3.1")
    monkeypatch.setattr(capture, "_run", run)
    assert capture.main(["--output-dir", str(tmp_path / "out"), "--ncu"]) == 1, "what was asked for did not come"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    schema()(summary)
    assert summary["tool"] == {"name": "nsys", "version": "2025.3.1", "why": None}
    assert [one["device"] for one in summary["devices"]] == ["0", "1"]
    assert [one["name"] for one in summary["files"]] == ["trace.nsys-rep", "load_test.json"]
    assert any("Nsight Compute" in note for note in summary["notes"])
    assert not (tmp_path / "out" / "trace.sqlite").exists()


def profiler_of(**changes: Any) -> Profiler:
    values = {"profile": "torch", "profile_output": Path("t.json.gz"), "profile_seconds": None, "duration": 10.0}
    import torch

    return Profiler(Namespace(**values | changes), torch.device("cpu"), 0)


def test_the_traced_part_is_the_end_of_the_window() -> None:
    profiler = profiler_of()
    moments = [(now, profiler.due(now, True)) for now in (0.0, 6.9, 7.0, 8.0, 10.0, 11.0)]
    assert [now for now, told in moments if told is True] == [7.0]
    assert [now for now, told in moments if told is False] == [10.0]
    assert profiler.record is not None
    assert (profiler.record["seconds"], profiler.record["steps"]) == (3.0, 2)
    assert profiler.cut(12.0) is None
    assert profiler_of(profile="none").due(9.0, True) is None


def test_a_trace_is_bounded_in_steps_and_ends_with_the_load() -> None:
    profiler = profiler_of(profile_seconds=10.0)
    told = [profiler.due(0.001 * step, True) for step in range(MOST_STEPS + 5)]
    assert told.index(False) == MOST_STEPS
    assert profiler.record is not None
    assert str(MOST_STEPS) in profiler.record["ended_by"]
    short = profiler_of(profile_seconds=10.0)
    assert short.due(1.0, True) is True
    assert short.cut(4.0) is False
    assert short.record is not None
    assert short.record["seconds"] == 3.0


def test_refusals_of_the_load_tests_own_flags() -> None:
    with pytest.raises(Refused, match="--profile torch"):
        profiler_of(profile="nsys")
    with pytest.raises(Refused, match=r"NAME\.json\.gz"):
        profiler_of(profile_output=None)


def test_ranges_cost_nothing_until_they_are_wanted() -> None:
    assert ranges.mark("a") is ranges.mark("b")
    opened: list[str] = []

    class Opened:
        def __init__(self, name: str) -> None:
            opened.append(name)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    ranges.use(Opened)
    try:
        with ranges.mark(ranges.step_name(decodes=True, prefills=False)):
            pass
    finally:
        ranges.use(None)
    assert opened == ["decode step"]
    assert ranges.step_name(decodes=True, prefills=True) == ranges.TOGETHER
    assert ranges.step_name(decodes=False, prefills=True) == ranges.PREFILL


def test_every_rank_hears_when_to_trace() -> None:
    plan = StepPlan.decode(StepPlan(kind=TRACE, code=1).encode(16))
    assert (plan.kind, plan.code) == (TRACE, 1)


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
    assert "a profiler ran" in " ".join(result["invalid_reasons"]), "its figures are nobody's baseline"
    with gzip.open(tmp_path / "out" / "trace.json.gz") as file:
        assert json.load(file)["traceEvents"]


def test_the_script_alone_says_what_it_lacks(tmp_path: Path) -> None:
    copy = tmp_path / SCRIPT.name
    copy.write_bytes(SCRIPT.read_bytes())
    for words, said in ((["bash", str(copy)], "llmval_runners"), (["bash", str(SCRIPT), "--python", "/no"], "no /no")):
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 2
        assert said in done.stderr
