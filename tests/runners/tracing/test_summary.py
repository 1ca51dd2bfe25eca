"""From a trace to its summary: reading, grouping and summing."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmval_runners.measure import profiler_ranges as ranges
from llmval_runners.process.errors import Refused
from llmval_runners.tracing.chrome import read_chrome
from llmval_runners.tracing.classify import ATTENTION, COMMUNICATION, ENGINE_KERNELS, GEMM, OTHER, group_of
from llmval_runners.tracing.nsys import read_nsys
from llmval_runners.tracing.summary import one_line, summary_of
from llmval_runners.tracing.timeline import device_time

from tests.helpers.runners.traces import GPU_EVENTS, ROOT, chrome, event, load_result, nsys_export, schema


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", COMMUNICATION),
        ("void (anonymous namespace)::one_shot_all_reduce_kernel<c10::BFloat16, 16, 2, true>(...)", COMMUNICATION),
        ("void (anonymous namespace)::two_shot_all_reduce_kernel_inplace<c10::BFloat16, 16, 4>(...)", COMMUNICATION),
        ("gloo:all_reduce", COMMUNICATION),
        ("c10d::allreduce_", COMMUNICATION),
        ("_decode", ATTENTION),
        ("llmval_runners.engine.kernels.paged_decode._combine", ATTENTION),
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
def test_kernels_are_grouped_by_name(name: str, group: str) -> None:
    assert group_of(name) == group


def kernels_of(file: str) -> set[str]:
    """Triton functions that are launched with a grid. The others are inlined and appear in no trace."""
    tree = ast.parse((ROOT / "runners" / "llmval_runners" / "engine" / "kernels" / file).read_text())
    compiled = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(one) == "triton.jit" for one in node.decorator_list)
    }
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return compiled & {ast.unparse(call.value) for call in calls if isinstance(call, ast.Subscript)}


def test_the_engines_own_kernels_are_known_by_their_functions_names() -> None:
    """Otherwise a renamed or added attention or GEMM kernel would count as other."""
    assert {name for name, group in ENGINE_KERNELS.items() if group == GEMM} == kernels_of("small_batch_linear.py")
    attention = {name for name, group in ENGINE_KERNELS.items() if group == ATTENTION}
    assert kernels_of("paged_decode.py") <= attention <= kernels_of("paged_decode.py") | kernels_of("fused_ops.py")


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), min_size=1))
def test_a_busy_moment_counts_once(found: list[tuple[int, int]]) -> None:
    intervals = sorted((start, start + length) for start, length in found)
    device = device_time("0", intervals)
    busy = {moment for start, end in intervals for moment in range(start, end)}
    assert device.busy_ns == len(busy)
    assert device.kernel_ns == sum(end - start for start, end in intervals)
    assert device.span_ns == max(end for _, end in intervals) - intervals[0][0]
    assert device.kernels == len(intervals)


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
    assert "communication 22.2%" in one_line(summary)


def test_operators_have_their_self_time(tmp_path: Path) -> None:
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
    us = {name: one.ns / 1e3 for name, one in timeline.totals.items()}
    assert us == {
        "aten::linear": 30.0, "aten::addmm": 55.0, "aten::copy_": 15.0, "aten::add": 10.0, "gloo:all_reduce": 30.0
    }  # fmt: skip
    assert not timeline.devices


def test_an_nsys_export_has_every_gpu(tmp_path: Path) -> None:
    kernels = [(1500, 2000, 1, "b"), (0, 1000, 0, "a"), (500, 1500, 0, "b"), (0, 1000, 1, "a")]
    timeline = read_nsys(nsys_export(tmp_path, kernels), ranges.NAMES)
    assert {name: (one.calls, one.ns) for name, one in timeline.totals.items()} == {"a": (2, 2000), "b": (2, 1500)}
    assert [(one.name, one.busy_ns) for one in timeline.devices] == [("0", 1500), ("1", 1500)]
    assert {name: one.calls for name, one in timeline.ranges.items()} == {"decode step": 1, "prefill": 1}


def test_a_trace_without_kernels_is_empty_and_another_file_is_refused(tmp_path: Path) -> None:
    path = nsys_export(tmp_path, [])
    assert not read_nsys(path, ranges.NAMES).totals
    path.write_bytes(b"x" * 200)
    with pytest.raises(Refused, match="not an export of nsys"):
        read_nsys(path, ranges.NAMES)
    broken = chrome(tmp_path, GPU_EVENTS)
    broken.write_bytes(broken.read_bytes()[:-20])
    with pytest.raises(Refused, match="not a Chrome trace"):
        read_chrome(broken, ranges.NAMES)
