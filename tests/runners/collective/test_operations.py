"""Sizes, bandwidths and values of the collectives: a wrong rank, a wrong place and a wrong sum must all be seen."""

import pytest
import torch
from llmval_runners.collective.operations import BY_NAME, Call, Operation, expected, values
from llmval_runners.collective.options import sizes
from llmval_runners.collective.timing import iterations_for, over_ranks

CPU = torch.device("cpu")


class OneOf(Call):
    """One rank of several, without a group: the test is the network."""

    def __init__(self, operation: Operation, elements: int, dtype: torch.dtype, rank: int, ranks: int) -> None:
        self.operation, self.rank, self.ranks = operation, rank, ranks
        send, receive = operation.buffers(elements, ranks)
        self.receive = torch.empty(receive, dtype=dtype)
        self.send = self.receive if operation.in_place else torch.empty(send, dtype=dtype)


def carried_out(name: str, ranks: int, dtype: torch.dtype, elements: int = 96) -> list[OneOf]:
    """All ranks after the collective, by its definition."""
    operation = BY_NAME[name]
    calls = [OneOf(operation, elements, dtype, rank, ranks) for rank in range(ranks)]
    for call in calls:
        call.fill()
    sent = [call.send.clone() for call in calls]
    part = elements // ranks
    for rank, call in enumerate(calls):
        if name == "all_reduce":
            call.receive.copy_(torch.stack(sent).sum(0, dtype=dtype))
        elif name == "all_gather":
            call.receive.copy_(torch.cat(sent))
        elif name == "reduce_scatter":
            call.receive.copy_(torch.stack(sent).sum(0, dtype=dtype)[rank * part : (rank + 1) * part])
        elif name == "all_to_all":
            call.receive.copy_(torch.cat([one[rank * part : (rank + 1) * part] for one in sent]))
        elif name == "broadcast":
            call.receive.copy_(sent[0])
        else:
            call.receive.copy_(sent[(rank - 1) % ranks])
    return calls


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.bfloat16])
def test_a_right_result_has_nothing_wrong(name: str, dtype: torch.dtype) -> None:
    assert [call.wrong() for call in carried_out(name, 3, dtype)] == [(0, "")] * 3


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("dtype", [torch.int32, torch.float32])
def test_data_of_another_rank_or_from_another_place_is_wrong(name: str, dtype: torch.dtype) -> None:
    moved = carried_out(name, 3, dtype)[1]
    moved.receive.copy_(moved.receive.roll(1))
    assert moved.wrong()[0] > 20
    other, call = carried_out(name, 3, dtype)[1:]
    if name in ("all_reduce", "broadcast", "all_gather"):  # the same on all ranks: a missing rank instead
        call.receive.sub_(values(2, 0, call.receive.numel(), dtype, CPU))
    else:
        call.receive.copy_(other.receive)
    assert call.wrong()[0] > 20


def test_a_sum_without_one_rank_is_wrong_in_every_type() -> None:
    for dtype in (torch.int32, torch.float32, torch.bfloat16):
        call = carried_out("all_reduce", 8, dtype)[0]
        call.receive.sub_(values(5, 0, 96, dtype, CPU))
        assert call.wrong()[0] > 70, dtype


def test_one_element_and_nan_are_seen_and_described() -> None:
    call = carried_out("all_gather", 2, torch.int32)[0]
    call.receive[70] += 1
    assert call.wrong() == (1, f"element 70 is {int(call.receive[70])} instead of {int(call.receive[70]) - 1}".replace(
        str(int(call.receive[70])), f"{int(call.receive[70]):g}").replace(
        str(int(call.receive[70]) - 1), f"{int(call.receive[70]) - 1:g}"))  # fmt: skip
    floats = carried_out("all_reduce", 2, torch.float32)[0]
    floats.receive[3] = float("nan")
    assert floats.wrong()[0] == 1


def test_a_float_sum_may_differ_by_rounding_and_no_more() -> None:
    ranks = 8
    call = carried_out("all_reduce", ranks, torch.bfloat16)[0]
    wanted, bound = expected(call.operation, 0, ranks, 0, call.receive, 96)
    assert isinstance(bound, torch.Tensor)
    size = sum(values(rank, 0, 96, torch.bfloat16, CPU).double().abs() for rank in range(ranks))
    u = 2.0**-8
    assert torch.allclose(bound, torch.as_tensor(size * 7 * u / (1 - 7 * u)))
    call.receive.copy_((wanted + 0.9 * bound).bfloat16())
    assert call.wrong()[0] < 10, "rounded to bfloat16 once more, a few may be over"
    call.receive.copy_((wanted + 2 * bound).bfloat16())
    assert call.wrong()[0] == 96


def test_the_values_of_ranks_and_places_differ_and_their_sums_fit() -> None:
    ranks = [values(rank, 0, 4096, torch.int32, CPU) for rank in range(16)]
    assert all((one != other).float().mean() > 0.99 for one in ranks for other in ranks if one is not other)
    assert torch.equal(values(3, 100, 50, torch.int32, CPU), ranks[3][100:150])
    assert int(max(one.max() for one in ranks)) < 2**20


def test_the_factors_and_sizes_are_those_of_nccl_tests() -> None:
    factors = {name: one.bus_factor(8) for name, one in BY_NAME.items()}
    assert factors == {
        "all_reduce": 1.75, "all_gather": 0.875, "reduce_scatter": 0.875, "all_to_all": 0.875, "broadcast": 1.0,
        "send_recv": 1.0,
    }  # fmt: skip
    gathered = BY_NAME["all_gather"]
    assert gathered.elements(1000, 3, 4) == 3 * 80, "333 bytes for each rank are rounded down to 320"
    assert gathered.elements(40, 3, 4) == 0, "less than 16 bytes for each rank: nccl-tests measures 0 bytes there"
    assert BY_NAME["all_reduce"].elements(8, 3, 4) == 2
    assert BY_NAME["reduce_scatter"].bytes_needed(96, 3, 4) == 4 * (96 + 32)


def test_the_sizes_end_with_the_largest() -> None:
    assert sizes(8, 128, 4) == [8, 32, 128]
    assert sizes(8, 100, 4) == [8, 32, 100]
    assert sizes(8, 8, 2) == [8]


def test_a_time_is_the_slowest_rank_of_each_repeat_and_the_median_of_the_repeats() -> None:
    found = over_ranks([[1.0, 5.0, 2.0], [3.0, 1.0, 2.0]], 20)
    assert (found.median_s, found.least_s, found.most_s, found.mean_s) == (3.0, 2.0, 5.0, 2.0)


def test_a_slow_call_is_timed_fewer_times() -> None:
    assert [iterations_for(call_s, 20) for call_s in (1e-5, 0.1, 3.0, 0.0)] == [20, 5, 2, 20]
    assert iterations_for(3.0, 1) == 1
