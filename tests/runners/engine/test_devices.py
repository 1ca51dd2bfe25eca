"""Which device a rank gets, by the GPUs of its own node."""

import pytest
import torch
from llmval_runners.engine.config import choose_device
from llmval_runners.process.errors import Refused


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


@pytest.mark.parametrize(("ranks", "on_this_node"), [(2, None), (2, "2"), (16, "2"), (2, "1")])
def test_only_the_ranks_of_this_node_need_its_gpus(two_gpus, monkeypatch, ranks, on_this_node):
    if on_this_node is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", on_this_node)
    assert choose_device("auto", ranks=ranks, local_rank=1) == torch.device("cuda", 1)


@pytest.mark.parametrize(("ranks", "on_this_node"), [(3, None), (3, "3"), (16, "4")])
def test_more_ranks_than_gpus_on_a_node_are_refused_by_every_rank(two_gpus, monkeypatch, ranks, on_this_node):
    if on_this_node is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", on_this_node)
    with pytest.raises(Refused, match=f"{on_this_node or ranks} ranks need .* and 2 can be used"):
        choose_device("cuda", ranks=ranks, local_rank=0)
