"""The model's results: compared with Hugging Face's Llama, sharded with unsharded, and sizes with the formula."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from llmval_runners.engine.attention.reference import reference_attention
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.kv_cache import PagedKVCache, pages_for
from llmval_runners.engine.model import Decoder
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import SHAPES, ModelShape, RopeScaling, shape_by_name, tensor_shapes
from llmval_runners.engine.step_plan import Admit, Prefill, StepPlan
from llmval_runners.engine.weights import build, export, random_weights
from llmval_runners.process.errors import Refused
from torch.multiprocessing.spawn import start_processes

CPU = torch.device("cpu")
SCALED = replace(SHAPES["tiny"], rope_scaling=RopeScaling(factor=4.0, original_max_positions=32), rope_theta=1e4)
TOKENS = list(range(3, 3 + 7 * 53, 7))  # 53: above the scaled shape's original context, and no whole page


def logits(model: Decoder, backend: str, tokens: list[int], page_size: int = 8) -> torch.Tensor:
    """This rank's logits for each position of one prompt, in shuffled pages."""
    pages = pages_for(len(tokens), page_size) + 3
    cache = PagedKVCache(
        model.shape,
        tensor_parallel=model.parallel.size,
        pages=pages,
        page_size=page_size,
        dtype=torch.float32,
        device=CPU,
    )
    executor = CpuExecutor(model, cache, reference_attention(backend), max_batch=2, max_pages=pages)
    order = torch.randperm(pages, generator=torch.Generator().manual_seed(1)).tolist()
    plan = StepPlan(
        admits=[Admit(1, order[: pages_for(len(tokens), page_size)])], prefills=[Prefill(1, 0, tokens, True)]
    )
    hidden, _, _ = executor.forward(plan)
    return model.logits(hidden)


@pytest.mark.parametrize("backend", ["sdpa", "flex"])
@pytest.mark.parametrize("shape", [SHAPES["tiny"], SCALED], ids=["plain", "scaled rope"])
def test_logits_equal_hugging_face(backend: str, shape: ModelShape) -> None:
    transformers = pytest.importorskip("transformers")
    rope: dict[str, object] = {"rope_type": "default", "rope_theta": shape.rope_theta}
    if isinstance(scaling := shape.rope_scaling, RopeScaling):
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_positions,
        }
    config = transformers.LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        rms_norm_eps=shape.norm_eps,
        max_position_embeddings=shape.max_positions,
        rope_parameters=rope,
        tie_word_embeddings=False,
    )
    model = build(shape, random_weights(3, CPU), Parallel(CPU), torch.float32)
    reference = transformers.LlamaForCausalLM(config).eval()
    reference.load_state_dict(export(model), strict=True)
    with torch.no_grad():
        expected = reference(torch.tensor([TOKENS])).logits[0]
    torch.testing.assert_close(logits(model, backend, TOKENS), expected, atol=2e-5, rtol=1e-4)


def _rank(rank: int, rendezvous: str, out: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = rendezvous
    parallel = Parallel(CPU, rank, 2)
    model = build(SHAPES["tiny"], random_weights(3, CPU), parallel, torch.float32)
    own = logits(model, "sdpa", TOKENS)
    hidden = torch.randn(5, 128, generator=torch.Generator().manual_seed(5))
    sampled = model.sample(hidden, 0.0, None)
    whole = parallel.all_gather(own).transpose(0, 1).flatten(1)
    torch.save(
        (whole, sampled, parallel.min_over_ranks(9 - 2 * rank), parallel.min_over_ranks(7 + 2 * rank)),
        f"{out}/{rank}.pt",
    )
    parallel.close()


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    start_processes(_rank, (port, str(tmp_path)), nprocs=2, start_method="fork")
    model = build(SHAPES["tiny"], random_weights(3, CPU), Parallel(CPU), torch.float32)
    expected = logits(model, "sdpa", TOKENS)
    hidden = torch.randn(5, 128, generator=torch.Generator().manual_seed(5))
    for rank in (0, 1):
        whole, sampled, *minima = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(whole, expected, atol=2e-5, rtol=1e-4)
        assert sampled.tolist() == model.logits(hidden).argmax(-1).tolist()
        assert minima == [7, 7]


def test_sampling_follows_the_softmax(tiny: Decoder) -> None:
    hidden = torch.randn(1, tiny.shape.hidden, generator=torch.Generator().manual_seed(0)).expand(20_000, -1)
    drawn = tiny.sample(hidden, 0.5, torch.Generator().manual_seed(1))
    expected = torch.softmax(tiny.logits(hidden[:1])[0] / 0.5, 0)
    top = expected.topk(3)
    for token, probability in zip(top.indices, top.values, strict=True):
        assert abs((drawn == token).float().mean() - probability) < 4 * (probability / 20_000) ** 0.5


def test_the_parameter_count_is_that_of_the_tensors() -> None:
    for shape in SHAPES.values():
        assert shape.parameters == sum(torch.Size(size).numel() for _, size in tensor_shapes(shape))
    assert 39e9 <= SHAPES["llama40b"].parameters <= 41e9
    assert SHAPES["llama-3.1-8b"].parameters == 8_030_261_248  # as the published checkpoint
    assert SHAPES["llama-3.1-70b"].parameters == 70_553_706_496
    assert SHAPES["llama40b"].kv_bytes_per_token(2) * 65536 == 12 * 1024**3


def test_a_shape_that_the_ranks_do_not_divide_is_refused_by_name() -> None:
    with pytest.raises(Refused, match=r"query heads \(8\).*--nproc_per_node 1 or 2 or 4 or 8"):
        SHAPES["tiny"].check_tensor_parallel(16)
    six = replace(SHAPES["tiny"], heads=12, kv_heads=6, ffn=384, vocab=2048)
    with pytest.raises(Refused, match=r"KV heads \(6\) neither divide 4 nor .*--nproc_per_node 1 or 2"):
        six.check_tensor_parallel(4)
    with pytest.raises(Refused, match="--model tiny"):
        shape_by_name("tinny", {})
    assert shape_by_name("tiny", {"layers": 3}).name == "tiny-custom"
