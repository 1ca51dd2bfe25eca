"""The GPU decoder's steps around its kernels: biases, norms of queries and keys, activations, and partial sums.

Plain PyTorch stands in for the kernels, so it runs on a CPU. `test_gpu_relatives.py` runs the kernels on a GPU.
"""

import json

from tests.helpers.runners.own_process import run

_COMPARE = """
import json
from dataclasses import replace
import torch_kernels
import torch
from llmval_runners.engine.attention.backend import Tokens
from llmval_runners.engine.attention.reference import reference_attention
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.gpu.decoder import FusedDecoder
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import SHAPES, YarnRope, tensor_shapes
from llmval_runners.engine.step_plan import Admit, Prefill, StepPlan
from llmval_runners.engine.weights import build
from tests.helpers.runners.state_source import from_state_dict

CPU, TINY = torch.device("cpu"), SHAPES["tiny"]
RELATIVES = {
    "llama": {},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True},
    "qwen3 with biases": {"qk_norm": True, "qkv_bias": True, "output_bias": True},
    "llama with biases": {"qkv_bias": True, "output_bias": True, "mlp_bias": True},
    "gelu and yarn": {"activation": "gelu_tanh", "rope_scaling": YarnRope(4.0, 16), "query_scale": 1.3},
}
IDS = list(range(3, 30))

def errors(dtype, changes):
    shape = replace(TINY, **changes)
    draw = torch.Generator().manual_seed(4)
    state = {name: torch.randn(size, generator=draw) * (size[-1] ** -0.5 if len(size) > 1 else 0.3)
             + (len(size) == 1 and name.endswith("norm.weight")) for name, size in tensor_shapes(shape)}
    model = build(shape, from_state_dict(state), Parallel(CPU), torch.float32)
    def new_cache():
        return PagedKVCache(shape, tensor_parallel=1, pages=4, page_size=8, dtype=torch.float32, device=CPU)
    cpu = CpuExecutor(model, new_cache(), reference_attention("sdpa"), max_batch=1, max_pages=4)
    plan = StepPlan(admits=[Admit(0, [0, 1, 2, 3])], prefills=[Prefill(0, 0, IDS, True)])
    wanted = model.logits(cpu.forward(plan)[0])
    if dtype == torch.bfloat16:  # the kernels for few rows, which split products
        model = build(shape, from_state_dict(state), Parallel(CPU), dtype)
    fused = FusedDecoder(model, new_cache())
    rows = torch.zeros(len(IDS), dtype=torch.int32)
    tokens = Tokens(torch.tensor(IDS), rows, torch.arange(len(IDS), dtype=torch.int32))
    x, update = fused.forward(tokens, torch.tensor([[0, 1, 2, 3]]), torch_kernels.causal)
    found = fused.logits(x, update).float()
    return float((found - wanted).norm() / wanted.norm())

with torch.inference_mode():
    print(json.dumps({f"{name}, {dtype}": errors(dtype, changes) for name, changes in RELATIVES.items()
                      for dtype in (torch.float32, torch.bfloat16)}))
"""


def test_relatives_of_llama_equal_the_cpu_model() -> None:
    found = json.loads(run(_COMPARE))
    assert len(found) == 12
    assert {name for name, error in found.items() if not error < (1e-5 if "float32" in name else 0.03)} == set(), found
