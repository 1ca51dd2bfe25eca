"""One rank of test_gpu_parallel.py: `gpu_parallel_ranks.py sums|logits|die FILE ALL_REDUCE...`."""

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "runners"))

import torch  # noqa: E402
from llmval_runners.engine.engine import PlanChannel  # noqa: E402
from llmval_runners.engine.gpu.executor import GpuExecutor  # noqa: E402
from llmval_runners.engine.kernels import all_reduce  # noqa: E402
from llmval_runners.engine.kv_cache import PagedKVCache  # noqa: E402
from llmval_runners.engine.loader import gpu_attention  # noqa: E402
from llmval_runners.engine.parallel import Parallel  # noqa: E402
from llmval_runners.engine.shapes import ModelShape  # noqa: E402
from llmval_runners.engine.step_plan import Admit, Decode, Prefill, StepPlan  # noqa: E402
from llmval_runners.engine.weights import build, random_weights  # noqa: E402
from llmval_runners.process.errors import RankLost  # noqa: E402

SHAPE = ModelShape(
    "test", layers=3, hidden=1024, heads=8, kv_heads=2, head_dim=128, ffn=2048, vocab=4096, max_positions=16384
)
PAGE, PAGES = 128, 16
SIZES = [300, 5, 128]  # tokens of the prompts
CALLS = 60


def executor_of(parallel: Parallel, *, graphs: bool = True) -> GpuExecutor:
    model = build(SHAPE, random_weights(3, parallel.device), parallel, torch.bfloat16)
    cache = PagedKVCache(
        SHAPE, tensor_parallel=parallel.size, pages=PAGES, page_size=PAGE, dtype=torch.bfloat16,
        device=parallel.device, with_padding_page=True,
    )  # fmt: skip
    attention = gpu_attention("sdpa", cache, model.heads)
    return GpuExecutor(model, cache, attention, max_batch=8, max_pages=4, graphs=graphs)


def plans() -> list[StepPlan]:
    """Prompts, then decode steps on the tokens of the previous steps."""
    draw = random.Random(1)
    prompts = [draw.choices(range(SHAPE.vocab), k=size) for size in SIZES]
    admits = [Admit(row, list(range(row * 4, row * 4 + 4))) for row in range(len(SIZES))]
    first = StepPlan(admits=admits, prefills=[Prefill(row, 0, prompt, True) for row, prompt in enumerate(prompts)])
    steps = (StepPlan(decodes=[Decode(row, size + step) for row, size in enumerate(SIZES)]) for step in range(8))
    return [first, *steps]


def logits_of(executor: GpuExecutor, parallel: Parallel) -> tuple[list[list[int]], torch.Tensor]:
    """The tokens of each step, and the logits [rows, vocab] of a last step with fixed tokens."""
    tokens = [list(executor.execute(plan)) for plan in plans()]
    # Start again, so that every way to compute has the same history: close logits may have given other tokens.
    executor.execute(plans()[0])
    executor.last_token[: len(SIZES)] = 7
    own = executor.decode_logits(StepPlan(decodes=[Decode(row, size) for row, size in enumerate(SIZES)]))
    return tokens, parallel.all_gather(own).permute(1, 0, 2).flatten(1)


def logits(parallel: Parallel, choices: list[str]) -> dict[str, Any]:
    """For each all-reduce: the distance from one GPU's logits, and whether a graph gives the same as eager mode."""
    alone = Parallel(parallel.device)
    _, expected = logits_of(executor_of(alone), alone)
    found = {}
    for choice in choices:
        parallel.use_all_reduce(choice)
        graph_tokens, graph = logits_of(executor_of(parallel), parallel)
        eager_tokens, eager = logits_of(executor_of(parallel, graphs=False), parallel)
        distance = float((graph.float() - expected.float()).norm() / expected.float().norm())
        found[choice] = {
            "ran": parallel.all_reduce_for(torch.empty(8, SHAPE.hidden, dtype=torch.bfloat16, device="meta")),
            "distance": distance,
            "bits": bool(parallel.min_over_ranks(int(torch.equal(graph, eager)))),
            "tokens": bool(parallel.min_over_ranks(int(graph_tokens == eager_tokens))),
        }
    return found


def sums(parallel: Parallel, choices: list[str]) -> dict[str, Any]:
    """Whether consecutive all-reduces in a graph are exact if the ranks are late in turn, for each size in bytes."""
    found: dict[str, Any] = {}
    for choice in choices:
        parallel.use_all_reduce(choice)
        for size in (16, 16 * 1024, 128 * 1024, 1024 * 1024, 2 * 1024 * 1024):
            # Small integers: bfloat16 holds them and their sums exactly, in any order.
            generator = torch.Generator(parallel.device).manual_seed(parallel.rank)
            shape = (CALLS, size // 2)
            given = torch.randint(-8, 9, shape, generator=generator, device=parallel.device).to(torch.bfloat16)
            expected = given.float()
            with parallel.using_all_reduce(all_reduce.NCCL):
                expected = parallel.all_reduce(expected)
            out = torch.zeros_like(given)

            def calls(given: torch.Tensor, out: torch.Tensor) -> None:
                for index in range(CALLS):
                    if (index + parallel.rank) % 3 == 0:
                        torch.cuda._sleep(50_000)
                    out[index].copy_(parallel.all_reduce(given[index].clone()))

            calls(given, out)
            right = torch.equal(out.float(), expected)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                calls(given, out)
            for _ in range(3):
                out.zero_()
                graph.replay()
                right &= torch.equal(out.float(), expected)
            how = parallel.all_reduce_for(given[0])
            found[f"{choice} {size}"] = {"ran": how, "right": bool(parallel.min_over_ranks(int(right)))}
    return found


def die(parallel: Parallel, choices: list[str]) -> dict[str, Any]:
    """Rank 1 is killed while both serve."""
    parallel.use_all_reduce(choices[0])
    executor = executor_of(parallel)
    channel = PlanChannel(executor, max_batch=8)
    first, *steps = plans()
    for count, plan in enumerate([first, *(steps * 1000)]):
        if parallel.rank == 1 and count == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        if parallel.rank == 0:
            list(channel.broadcast(plan))
        else:
            channel.receive()
    return {}


def main() -> None:
    task, out, *choices = sys.argv[1:]
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    parallel = Parallel(device, rank, size)
    try:
        with torch.inference_mode():
            found = {"sums": sums, "logits": logits, "die": die}[task](parallel, choices)
    except RankLost as error:
        print(f"rank {rank} ends: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    if rank == 0:
        Path(out).write_text(json.dumps(found))
    parallel.min_over_ranks(0)
    os._exit(0)  # NCCL's shutdown would wait for graphs that still exist


if __name__ == "__main__":
    main()
