"""Which device a rank gets, by the GPUs of its own node."""

import pytest
import torch
from llmval_runners.engine.config import choose_device
from llmval_runners.process.errors import Refused
from llmval_runners.process.placement import ranks_of_this_node


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_only_the_ranks_of_this_node_need_its_gpus(two_gpus, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert ranks_of_this_node(16) == 2
    assert choose_device("auto", local_ranks=2, local_rank=1) == torch.device("cuda", 1)


def test_without_torchrun_s_word_all_ranks_are_on_this_node(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert ranks_of_this_node(3) == 3


def test_more_ranks_than_gpus_on_a_node_are_refused_by_every_rank(two_gpus):
    with pytest.raises(Refused, match="3 ranks need 3 GPUs, and 2 can be used: pass --nproc_per_node 2 or fewer"):
        choose_device("cuda", local_ranks=3, local_rank=0)


def test_the_environment_is_read_in_one_place(two_gpus, monkeypatch):
    """`LOCAL_WORLD_SIZE` lowered the ranks a second time, so a caller with 3 ranks on 2 GPUs was not refused."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with pytest.raises(Refused, match="3 ranks need 3 GPUs"):
        choose_device("cuda", local_ranks=3, local_rank=0)
