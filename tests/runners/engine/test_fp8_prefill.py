"""Chunks, pages, scales and merging of FP8 attention on a CPU, where torch does cuDNN's and Triton's part.

The script runs in its own process, with empty modules in place of Triton, which torch for CPUs does not include.
"""

from tests.helpers.runners.own_process import run

_SCRIPT = """
from types import SimpleNamespace
import torch

import no_triton

from llmval_runners.engine.attention import cudnn_sizes, fp8_prefill
from llmval_runners.engine.attention.backend import Prompts, TokenSpan

E4M3 = torch.float8_e4m3fn

def exact(q, k, v, causal):
    q, (k, v) = q.float().transpose(0, 1), [x.float().repeat_interleave(HEADS // KV_HEADS, 0) for x in (k, v)]
    scores = q @ k.transpose(1, 2) * q.shape[2] ** -0.5
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[1:]).triu(1).bool(), float("-inf"))
    return (scores.softmax(-1) @ v).transpose(0, 1), scores.logsumexp(-1)

calls = []

def fp8(q, k, v, scale, causal, out, logs):
    assert all(x.is_contiguous() and x.dtype == E4M3 for x in (q, k, v, out)) and logs.is_contiguous()
    calls.append((len(q), k.shape[1], causal))
    result, sums = exact(q, k, v, causal)
    assert (result * scale).abs().max() <= 448
    out.copy_((result * scale).to(E4M3))
    logs.copy_(sums)

def merge(parts, logs, scale, out):
    weights = logs.softmax(0).transpose(1, 2)[..., None]
    out.copy_((parts.float() * weights).sum(0) / scale)

fp8_prefill.merge_segments, fp8_prefill.fp8_sdpa = merge, lambda device: fp8
cudnn_sizes.FP8_SEGMENT = 2048
torch.manual_seed(0)
HEADS, KV_HEADS, DIM, PAGE, CHUNKS = 4, 2, 32, 128, ((0, 2048), (2048, 3072), (5120, 2048))
length = sum(count for _, count in CHUNKS)
pools = torch.zeros(1, 2, KV_HEADS, length + 2 * PAGE, DIM, dtype=E4M3)
cache = SimpleNamespace(pool=pools, dtype=E4M3, page_size=PAGE)
attention = fp8_prefill.Fp8PrefillAttention(cache, HEADS)
pages = torch.randperm(length // PAGE + 2).tolist()
q, k, v = (torch.randn(length, heads, DIM).bfloat16() for heads in (HEADS, KV_HEADS, KV_HEADS))
v[length // 2 :] *= 40
slots = torch.tensor([pages[token // PAGE] * PAGE + token % PAGE for token in range(length)])
for pool, new in zip(cache.pool[0], (k, v)):
    pool.view(torch.uint8)[:, slots] = new.to(E4M3).view(torch.uint8).transpose(0, 1)
found = []
for start, count in CHUNKS:
    attend = attention.prefill(None, None, Prompts([TokenSpan(0, 0, count, start)], [pages]))
    step = torch.cat((q, k, v), 1)[start : start + count]
    found.append(attend(step, *cache.pool[0]))
    filled = attend(torch.cat((step, torch.full_like(step[:16], float("nan")))), *cache.pool[0])
    assert torch.equal(filled[:count], found[-1]) and not filled[count:].any()  # padding rows
expected = exact(q, k.transpose(0, 1), v.transpose(0, 1), True)[0]
error = (torch.cat(found).view_as(expected).float() - expected).norm() / expected.norm()
assert attention.chunks_in_fp8 == 3
assert calls[-4:] == [(2048, keys, causal) for keys, causal in ((2048, 0), (2048, 0), (1024, 0), (2048, 1))], calls
tiny = torch.tensor([-3.5, 0.25, 2.0]).to(E4M3)
assert fp8_prefill.largest_e4m3(tiny) == 3.5
print(float(error))
"""


def test_chunks_in_segments_equal_attention_in_one_piece() -> None:
    assert 0.005 < float(run(_SCRIPT)) < 0.08, "E4M3 has 3 bits of mantissa: each value is off by 2.6 % on average"
