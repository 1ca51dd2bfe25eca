"""The parts of the runner: sampled logits and their comparison, the needle test, failures, and refusals."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from llmval_runners.engine.attention.cudnn_sizes import CUDNN_MIN_TOKENS, cudnn_supports
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import SHAPES
from llmval_runners.engine.weights import random_weights
from llmval_runners.long_context import failure
from llmval_runners.long_context.engine_adapter import Context, Weights
from llmval_runners.long_context.measure import fidelity, needle
from llmval_runners.long_context.measure.timing import Interrupted, RunControl, chunks, prefill, prompts
from llmval_runners.long_context.options import parse
from llmval_runners.long_context.predict.peak_memory import kv_bytes, predict, weights_bytes
from llmval_runners.long_context.result import Result
from llmval_runners.long_context.settings import decide
from llmval_runners.long_context.setup import Setup
from llmval_runners.process.errors import RankLost, Refused
from llmval_runners.process.placement import Placement

CPU = torch.device("cpu")
TINY = Setup(
    SHAPES["tiny"],
    dtype="float32",
    weight_dtype="float32",
    kv_dtype="float32",
    chunk=48,
    page_size=16,
    decode_tokens=4,
    on_gpu=False,
)


@pytest.fixture(autouse=True)
def _no_grad():
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield


def control(stopped=lambda: False):
    return RunControl(stopped, lambda *_: None)


@pytest.fixture(scope="module")
def weights():
    return Weights(TINY, random_weights(0, CPU), Parallel(CPU))


def filled(weights, length, prompt=None):
    context = Context(weights, length, "sdpa")
    prompt = prompt or prompts(1, length, 2048, 0)[0]
    prefill(context, [prompt], control(), "prefill")
    return context, prompt


def test_weights_and_cache_are_predicted_to_the_byte(weights):
    assert weights.bytes == weights_bytes(TINY)
    for length in (1, 16, 100, 256):
        assert Context(weights, length, "sdpa").cache.bytes_per_rank == kv_bytes(TINY, length)
    assert weights.matrix_dtype() == "float32"


def test_sampled_logits_are_those_of_one_undivided_pass(weights):
    """Windows and forced decode steps run against a cache that was filled chunk by chunk over shuffled pages."""
    context, prompt = filled(weights, 200)
    following = prompts(1, 4, 2048, 1)[0]
    samples = fidelity.collect_samples(context, prompt, following)
    whole = Context(Weights(TINY, random_weights(0, CPU), Parallel(CPU)), 204, "sdpa")
    list(whole.prefill(0, 0, prompt + following, True))
    expected = whole.window_logits(0, prompt + following)
    context.attention.window = 150  # as of an attention that shows itself only in large chunks
    for logits, (start, count) in zip(samples.prompt, fidelity.windows(200), strict=True):
        torch.testing.assert_close(logits, expected[start : start + count], atol=2e-4, rtol=1e-4)
        wide = context.window_logits(start, prompt[: start + count])
        torch.testing.assert_close(wide, logits, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(samples.decode[0], expected[200:], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 3, 4, 96, 384, 65536])
def test_windows_lie_inside_and_do_not_overlap(length):
    found = fidelity.windows(length)
    assert found[-1][0] + found[-1][1] == length
    ends = [0, *(start + count for start, count in found)]
    assert all(start >= end for (start, _), end in zip(found, ends, strict=False))
    assert sum(count for _, count in found) <= fidelity.WINDOWS * fidelity.WINDOW_TOKENS


@pytest.mark.parametrize("length", [8192, 10000, 20000, 34816, 131071])
def test_windows_of_a_long_prompt_are_computed_in_chunks_that_cudnn_takes(length):
    """FP8 prompt attention needs such chunks. Otherwise the logits would silently be those of bf16."""
    ran = []

    def prefilled(chunks, all_logits):
        ran.extend((len(chunk.tokens), chunk.start) for chunk in chunks)
        return [torch.zeros(len(chunks[0].tokens), 1)]

    attention = SimpleNamespace(min_chunk_tokens=CUDNN_MIN_TOKENS)
    context = SimpleNamespace(attention=attention, executor=SimpleNamespace(prefill=prefilled))
    found = fidelity.windows(length)
    for start, count in found:
        assert len(Context.window_logits(context, start, [0] * (start + count))) == count
    assert len(ran) == fidelity.WINDOWS
    assert all(cudnn_supports(count, start, 128) for count, start in ran), ran
    assert length - 1024 < found[-1][0] + found[-1][1] <= length


def test_the_distance_is_what_torch_computes():
    reference, tested = torch.randn(2, 40, 64, generator=torch.Generator().manual_seed(0)).unbind()
    tested = reference + 0.1 * tested
    sums = fidelity.Comparison(Parallel(CPU))
    for part in (slice(0, 25), slice(25, 40)):
        sums.add(tested[part], reference[part])
    found = sums.as_json()
    p, q = reference.log_softmax(1), tested.log_softmax(1)
    rows = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(1)
    assert found["relative_error"] == pytest.approx(float((tested - reference).norm() / reference.norm()), rel=1e-5)
    assert found["kl_mean_nats"] == pytest.approx(float(rows.mean()), rel=1e-4)
    assert found["kl_max_nats"] == pytest.approx(float(rows.max()), rel=1e-4)
    assert found["top1_agreement"] == int((tested.argmax(1) == reference.argmax(1)).sum()) / 40
    assert found["positions"] == 40


def test_equal_and_broken_logits_are_distinguished():
    logits = torch.randn(4, 16)
    same, broken = fidelity.Comparison(Parallel(CPU)), fidelity.Comparison(Parallel(CPU))
    same.add(logits, logits.clone())
    assert same.as_json()["relative_error"] == 0
    broken.add(logits.index_fill(0, torch.tensor([1]), float("nan")), logits)
    assert broken.as_json()["finite"] is False
    assert broken.as_json()["relative_error"] is None


def settled(*flags):
    return decide(parse(["--model", "tiny", "--device", "cpu", *flags]), Placement())


@pytest.mark.parametrize(("errors", "objects"), [((0.01, 0.02), False), ((0.0, 0.02), True), ((0.01, None), True)])
def test_a_silent_fallback_does_not_pass(errors, objects):
    result = Result(settled("--dtype", "bf16", "--sequence-lengths", "64"), 1)
    result.add_predictions([(64, predict(TINY, 64))], 1)
    result.value["lengths"][0]["status"] = "passed"
    result.value["identity"] |= {"matrix_dtype": "bfloat16", "kv_dtype": "bfloat16"}
    result.add_fidelity(64, {kind: {"relative_error": e} for kind, e in zip(("prompt", "decode"), errors, strict=True)})
    result.finish()
    assert bool(result.value["reasons"]) is objects
    result.value["identity"]["matrix_dtype"] = "float32"
    result.finish()
    assert "matrix_dtype is float32 instead of bfloat16" in result.value["reasons"]


class Words:
    """A tokenizer whose tokens are characters."""

    def encode(self, text, add_special_tokens=True):
        return [1] * add_special_tokens + [ord(char) for char in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


@pytest.mark.parametrize("depth", needle.DEPTHS)
def test_the_haystack_has_its_length_and_the_needle_its_depth(depth):
    ids = needle.haystack(Words(), 4000, depth, "1234567")
    text = Words().decode(ids)
    assert len(ids) == 4000
    assert text.count("1234567") == 1
    assert text.endswith("town hall is")
    assert text.index("1234567") / 4000 == pytest.approx(depth, abs=0.06)
    with pytest.raises(ValueError, match="do not hold"):
        needle.haystack(Words(), 20, depth, "1234567")


def test_a_failed_allocation_is_named_with_the_predictions_error():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB. GPU 0 has a total capacity of …")
    assert failure.is_out_of_memory(error)
    found = failure.describe(error, 3, "prefill: tokens 0 to 8192", 10 * 2**30, 9 * 2**30)
    assert found["tried_bytes"] == 4 * 2**30
    assert found["prediction_error_bytes"] == 3 * 2**30
    text = failure.sentence(found, 65536)
    for words in (
        "65,536 tokens on rank 3",
        "4.00 GiB failed",
        "tokens 0 to 8192",
        "13.00 GiB were needed, and 10.00 were predicted (+3.00)",
    ):
        assert words in text
    assert not failure.is_out_of_memory(RuntimeError("illegal memory access"))


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported at another call"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        torch.distributed.DistBackendError("ncclUnhandledCudaError: Cuda failure 2 'out of memory'"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_recognised_in_all_its_messages(error):
    assert failure.is_out_of_memory(error)
    assert failure.describe(error, 0, "prefill", 1, None)["message"]


def test_a_collective_that_ran_out_of_memory_is_not_a_lost_rank():
    nccl = torch.distributed.DistBackendError("NCCL error, unhandled cuda error\nCuda failure 2 'out of memory'")
    lost = RankLost("rank 0 lost another rank during the sum (NCCL error, unhandled cuda error)")
    assert not failure.is_out_of_memory(lost)
    lost.__cause__ = nccl
    assert failure.is_out_of_memory(lost)
    assert failure.describe(lost, 0, "prefill", 1, None)["message"] == "NCCL error, unhandled cuda error"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("out of resource: shared memory, Required: 300000, Hardware limit: 232448"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
        OSError("out of memory"),
    ],
)
def test_other_failures_are_not_taken_for_it(error):
    assert not failure.is_out_of_memory(error)


def test_the_failures_of_ranks_are_read_and_deleted(tmp_path):
    output = tmp_path / "r.json"
    failure.write_rank_failure(output, {"rank": 1, "where": "x"})
    assert [one["rank"] for one in failure.read_rank_failures(output, range(2))] == [1]
    failure.delete_rank_failures(output, range(2))
    assert failure.read_rank_failures(output, range(2)) == []
    assert list(tmp_path.iterdir()) == []


def test_chunks_cover_a_prompt_and_a_stop_ends_it(weights):
    assert list(chunks(100, 48)) == [(0, 48), (48, 48), (96, 4)]
    context = Context(weights, 64, "sdpa")
    with pytest.raises(Interrupted):
        prefill(context, prompts(1, 64, 2048, 0), control(lambda: True), "prefill")


def test_prompts_are_the_same_everywhere_and_share_no_prefix():
    one, two = prompts(2, 32, 2048, 7)
    assert (one, two) == tuple(prompts(2, 32, 2048, 7))
    assert one[:4] != two[:4]


@pytest.mark.parametrize(
    ("flags", "instead"),
    [
        (["--sequence-lengths", "0"], "not at least 1"),
        (["--sequence-lengths", "64", "64"], "name each once"),
        (["--sequence-lengths", "64", "--length-divisor", "128"], "pass longer ones"),
        (["--fp8-mode", "native"], "pass --fp8-mode none"),
        (["--fp8-mode", "transformer-engine"], "pass --fp8-mode none"),
        (["--kv-dtype", "fp8"], "pass --kv-dtype auto"),
        (["--checkpoint", "x"], "leave --model"),
        (["--output-json", "/"], "pass a file"),
        (["--model", "llama-3.1-8b"], "pass --model tiny"),
        (["--prefill-attention", "fp8"], "on a CPU: pass --prefill-attention bf16"),
    ],
)
def test_refusals_say_what_to_do(flags, instead):
    with pytest.raises(Refused, match=instead):
        settled(*flags)


@pytest.mark.parametrize(
    ("flags", "instead"),
    [
        (["--kv-dtype", "bf16"], "pass --kv-dtype fp8 with it"),
        (["--attention-backend", "flex"], "pass --attention-backend sdpa with it"),
        (["--prefill-chunk", "1000"], "pass --prefill-chunk 8192 --page-size 128"),
        (["--prefill-chunk", "1024"], "pass --prefill-chunk 8192 --page-size 128"),
    ],
)
def test_fp8_attention_is_refused_if_it_would_not_run(flags, instead):
    plan = ["--model", "llama-3.1-8b", "--predict-only", "--memory-limit-gib", "139", "--prefill-attention", "fp8"]
    assert decide(parse(plan), Placement()).setup.prefill_attention == "fp8"
    assert decide(parse(plan), Placement()).reference.prefill_attention == "bf16"
    with pytest.raises(Refused, match=instead):
        decide(parse([*plan, *flags]), Placement())


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        ([], "fp8"),
        (["--kv-dtype", "bf16"], "bf16"),
        (["--fp8-mode", "none"], "bf16"),
        (["--attention-backend", "flex"], "bf16"),
        (["--prefill-chunk", "1000"], "bf16"),
        (["--sequence-lengths", "32768", "512"], "bf16"),
        (["--prefill-attention", "bf16"], "bf16"),
    ],
)
def test_prompts_run_in_fp8_attention_by_default_where_it_can(flags, chosen):
    plan = ["--model", "llama-3.1-8b", "--predict-only", "--memory-limit-gib", "139", *flags]
    assert decide(parse(plan), Placement()).setup.prefill_attention == chosen


def test_fp8_attention_that_did_not_run_does_not_pass():
    """It must have run in every length, also in the shorter ones."""
    result = Result(settled("--sequence-lengths", "64", "128"), 1)
    result.settings = replace(result.settings, setup=replace(result.settings.setup, prefill_attention="fp8"))
    for count, identity in ((0, "bf16+fp8"), (1, "fp8")):
        result.value["lengths"] = []
        result.add_predictions([(length, predict(TINY, length)) for length in (64, 128)], 1)
        for length, chunks_in_fp8 in ((64, count), (128, 3)):
            context = SimpleNamespace(attention=SimpleNamespace(chunks_in_fp8=chunks_in_fp8))
            context.prefill_attention = lambda context=context: Context.prefill_attention(context)
            result.set_prefill_attention(length, context)
        result.finish()
        assert result.value["identity"]["prefill_attention"] == identity
        missed = [reason for reason in result.value["reasons"] if "attention" in reason]
        assert missed == ["64 tokens: prompts ran in bf16 attention instead of fp8"] * (count == 0)


def test_a_one_layer_warm_up_leaves_the_model_whole(weights):
    context, prompt = filled(weights, 64)
    before = context.window_logits(0, prompt)
    layers = weights.model.layers
    with pytest.raises(Interrupted), context.first_layer_alone():
        assert len(weights.model.layers) == 1
        assert not torch.equal(context.window_logits(0, prompt), before)
        raise Interrupted
    assert weights.model.layers is layers
    torch.testing.assert_close(context.window_logits(0, prompt), before)


def test_the_reference_is_the_more_precise_run():
    assert settled().reference is None
    assert settled("--dtype", "bf16").reference.dtype == "float32"
    assert settled("--dtype", "bf16", "--reference", "none").reference is None
    assert settled("--kv-dtype", "bf16").reference.kv_dtype == "float32"
