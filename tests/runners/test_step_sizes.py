"""Which steps of prompt tokens have graphs."""

import pytest
from llmval_runners.step_sizes import MOST, SIZES, sizes_for

LEADS = [0, 64, 128, 256]


def test_every_step_of_the_load_test_fits_one_of_them():
    sizes = sizes_for(LEADS, None, 2048, 16)
    assert sizes == sorted(sizes) and sizes[-1] == 2048 + 256
    assert all(any(size >= lead + tokens for size in sizes) for lead in LEADS for tokens in (1, 500, 2048))


@pytest.mark.parametrize(("chunk", "largest"), [(100, 368), (300, 560), (8192, MOST + 256)])
def test_none_is_larger_than_a_step_can_be(chunk, largest):
    sizes = sizes_for(LEADS, None, chunk, 16)
    assert sizes[-1] == largest
    assert sizes[:-1] == [size for size in SIZES if size < largest]


def test_where_prompts_are_filled_up_to_few_sizes_decodes_come_on_top():
    assert sizes_for([0, 64], [512, 2048, 8192], 8192, 16) == [512, 576, 2048, 2112]
    assert sizes_for([0], [512, 2048], 256, 16) == []
