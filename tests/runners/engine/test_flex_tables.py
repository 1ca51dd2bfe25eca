"""Flex attention's tables of the pages that a block of queries sees, checked by torch on a CPU.

The scripts run in their own process, with empty modules in place of Triton, which torch for CPUs does not include.
"""

from tests.helpers.runners.own_process import run

_CAPTURED = """
from types import SimpleNamespace
import torch

from torch.nn.attention.flex_attention import flex_attention

flex_attention(*torch.randn(3, 1, 1, 128, 16))  # loads Inductor before the empty modules are there

import no_triton
torch.compile = lambda function, **_: function

from llmval_runners.engine.attention.backend import Prompts, Tokens, TokenSpan
from llmval_runners.engine.attention.flex import FlexAttention

torch.manual_seed(0)
PAGES, PAGE, HEADS, KV_HEADS, DIM, COUNT, WIDE = 12, 128, 4, 2, 16, 512, 3
cache = SimpleNamespace(pool=torch.randn(1, 2, KV_HEADS, PAGES * PAGE, DIM), page_size=PAGE)
attention = FlexAttention(cache, HEADS)
keys, values = cache.pool[0]
page_table = torch.zeros(5, WIDE, dtype=torch.int32)
tokens_at = Tokens(*(torch.zeros(COUNT, dtype=kind) for kind in (torch.int64, torch.int32, torch.int32)))
attend, fill = attention.capturable_prefill(tokens_at, page_table)
order = torch.randperm(PAGES).tolist()

def step(*chunks):
    spans, pages, offset = [], [], 0
    tokens_at.rows.fill_(4)
    tokens_at.positions.zero_()
    for row, (start, count) in enumerate(chunks):
        spans.append(TokenSpan(row, offset, count, start))
        pages.append(order[3 * row : 3 * row + 3])
        tokens_at.rows[offset : offset + count] = row
        tokens_at.positions[offset : offset + count] = torch.arange(start, start + count)
        offset += count
    return Prompts(spans, pages), offset

for chunks in ([(0, 300), (0, 100)], [(130, 200)], [(0, 1), (0, 128), (0, 129)]):
    prompts, used = step(*chunks)
    qkv = torch.randn(COUNT, HEADS + 2 * KV_HEADS, DIM)
    assert fill(prompts)
    found = attend(qkv, keys, values)
    once = attention.prefill(tokens_at, page_table, prompts)(qkv, keys, values)
    assert torch.equal(found, once) and found[:used].isfinite().all() and found[:used].abs().sum() > 0

long, rows = 1536, torch.tensor([0] * 300 + [1] * 380 + [4] * 856, dtype=torch.int32)
positions = torch.cat((torch.arange(300), torch.arange(380), torch.zeros(856))).int()
spans, pages = [TokenSpan(0, 0, 300, 0), TokenSpan(1, 300, 380, 0)], [order[:3], order[3:6]]
tokens, qkv = Tokens(rows.long(), rows, positions), torch.randn(long, HEADS + 2 * KV_HEADS, DIM)
attended = []
for attention.prefill_sizes in ([long], [512, 1024], [512]):
    attended.append(attention.prefill(tokens, page_table, Prompts(spans, pages))(qkv, keys, values))
assert attended[0][:680].abs().sum() > 0
assert all(torch.allclose(attended[0][:680], found[:680], atol=1e-6) for found in attended)

too_wide = Prompts([TokenSpan(0, 0, 128, 9 * PAGE)], [[page % PAGES for page in range(200)]])
wider = Prompts([TokenSpan(0, 0, 128, 190 * PAGE)], [[page % PAGES for page in range(200)]])
assert fill(too_wide) and not fill(wider)
"""


_SPLIT = """
import no_triton
import torch
from llmval_runners.engine.attention.flex import pieces, split_tables

assert pieces(512, [512, 1024, 2048]) == [0, 512] and pieces(768, [768]) == [0, 768]
assert pieces(5632, [512, 1024, 2048]) == [0, 2048, 4096, 5120, 5632]

torch.manual_seed(0)
for splits in (1, 2, 3, 8, 64):
    for width in (1, 7, 64):
        last = torch.randint(0, width, (9,), dtype=torch.int32)
        last[0], last[1] = 0, width - 1
        table = torch.randperm(9 * width, dtype=torch.int32).view(9, width)
        partial, ends, full, pages = split_tables(table, last, splits)
        assert ends.shape == pages.shape and len(pages) == 9 * splits
        for row in range(9):
            own = slice(row * splits, (row + 1) * splits)
            counts = zip(full[own].flatten().tolist(), pages[own].flatten(1).tolist())
            seen = [page for count, used in counts for page in used[:count]]
            assert seen == table[row, : last[row]].tolist(), (splits, width, row)
            which = partial[own].flatten().nonzero().flatten().tolist()
            assert len(which) == 1 and int(partial[own].sum()) == 1
            assert int(ends[row * splits + which[0], 0, 0, 0]) == int(table[row, last[row]])
        longest = full.flatten() + partial.flatten()
        assert int(longest.max()) <= -(-width // splits)  # no part has more than its share
"""

_DECODE = '''
from types import SimpleNamespace
import torch
from torch.nn.attention import flex_attention as library

library.flex_attention(*torch.randn(3, 1, 1, 128, 16))  # loads Inductor before the empty modules are there

import no_triton
torch.compile = lambda function, **_: function

from llmval_runners.engine.attention import flex
from llmval_runners.engine.attention.backend import Tokens

torch.manual_seed(0)
PAGES, PAGE, HEADS, KV_HEADS, DIM, WIDE = 12, 128, 4, 2, 16, 3
pool = torch.randn(1, 2, KV_HEADS, PAGES * PAGE, DIM)
attention = flex.FlexAttention(SimpleNamespace(pool=pool, page_size=PAGE), HEADS)
positions = torch.tensor([0, 127, 128, 300], dtype=torch.int32)
table = torch.randperm(PAGES).int().view(4, WIDE)
tokens = Tokens(torch.zeros(4).long(), torch.arange(4), positions)
qkv = torch.randn(4, HEADS + 2 * KV_HEADS, DIM)
calls = []

def paged(q, keys, values, block_mask, return_aux=None, **_):
    """What the compiled kernel computes. The eager function looks at the mask alone and not at the pages."""
    assert q.shape[1:3] == (KV_HEADS, HEADS // KV_HEADS) and block_mask.seq_lengths[0] == q.shape[2]
    calls.append((q.data_ptr() == qkv.data_ptr(), return_aux is not None))
    out, logs = torch.zeros_like(q), torch.full(q.shape[:3], float("-inf"))
    for b in range(len(q)):
        some = block_mask.kv_indices[b, 0, 0, : int(block_mask.kv_num_blocks[b, 0, 0])]
        whole = block_mask.full_kv_indices[b, 0, 0, : int(block_mask.full_kv_num_blocks[b, 0, 0])]
        some, whole = ((pages[:, None] * PAGE + torch.arange(PAGE)).flatten() for pages in (some, whole))
        slots = torch.cat((whole, some[block_mask.mask_mod(torch.tensor(b), 0, 0, some)])).long()
        if len(slots):
            k, v = (side[0][:, slots] for side in (keys, values))
            scores = q[b] @ k.transpose(1, 2) * DIM**-0.5
            out[b], logs[b] = scores.softmax(-1) @ v, scores.logsumexp(-1)
    return out if return_aux is None else (out, SimpleNamespace(lse=logs))

flex.flex_attention = paged
found = {}
for splits in (1, 2, 3):
    flex.splits_for = lambda batch, kv_heads: splits
    found[splits] = attention.decode(tokens, table)(qkv, *pool[0])
assert calls == [(True, False), (False, True), (False, True)], "a whole context copies nothing and needs no logarithm"
for row, position in enumerate(positions.tolist()):
    slots = [int(table[row, at // PAGE]) * PAGE + at % PAGE for at in range(position + 1)]
    k, v = (side[:, slots].repeat_interleave(HEADS // KV_HEADS, 0) for side in pool[0])
    expected = torch.nn.functional.scaled_dot_product_attention(qkv[row, :HEADS, None], k, v).flatten()
    for splits, got in found.items():
        assert torch.allclose(got[row], expected, atol=1e-5), (splits, row)
'''


def test_decodes_equal_plain_attention_whole_and_in_parts() -> None:
    run(_DECODE)


def test_fixed_tables_give_the_same_as_a_steps_own_tables() -> None:
    run(_CAPTURED)


def test_the_parts_of_a_context_contain_each_page_once() -> None:
    run(_SPLIT)
