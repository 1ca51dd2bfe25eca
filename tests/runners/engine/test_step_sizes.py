"""The sizes of prompt steps that have graphs."""

import pytest
from llmval_runners.engine.gpu.step_sizes import GRAPH_SIZES, MAX_GRAPH_PROMPT, piece_sizes, step_sizes

DECODE_SIZES = [0, 64, 128, 256]


def test_every_step_of_the_load_test_fits_into_a_size():
    sizes = piece_sizes(DECODE_SIZES, 2048, 16)
    assert sizes == sorted(sizes) and sizes[-1] == 2048 + 256
    assert all(any(size >= decodes + tokens for size in sizes) for decodes in DECODE_SIZES for tokens in (1, 500, 2048))


@pytest.mark.parametrize(("chunk", "largest"), [(100, 368), (300, 560), (8192, MAX_GRAPH_PROMPT + 256)])
def test_no_size_is_larger_than_the_largest_step(chunk, largest):
    sizes = piece_sizes(DECODE_SIZES, chunk, 16)
    assert sizes[-1] == largest
    assert sizes[:-1] == [size for size in GRAPH_SIZES if size < largest]


def test_fixed_attention_sizes_are_combined_with_each_number_of_decodes():
    assert step_sizes([0, 64], [2048, 512, 8192], 8192) == [(0, 512), (0, 2048), (64, 512), (64, 2048)]
    assert step_sizes([0], [512, 2048], 600) == [(0, 512), (0, 2048)]
    assert step_sizes([0], [512, 2048], 256) == [(0, 512)]
