"""The ranks that should share a replica, by the command: the judges compare what ran with them."""

import pytest

from llmval_tui.actions.command.several_nodes import ranks_asked, tensor_parallel_asked

NODES = ("torchrun", "--nnodes=2", "--nproc_per_node=8", "x.py")


@pytest.mark.parametrize(
    ("words", "identity", "ranks"),
    [
        (NODES, {"data_parallel": 2}, "8"),  # a replica on each node
        (NODES, {}, "16"),  # a result of before there were replicas
        ((*NODES, "--tensor-parallel-size", "16"), {"data_parallel": 1}, "16"),
        ((*NODES, "--tensor-parallel-gpus=4"), {"data_parallel": 4}, "4"),
        (("torchrun", "--nproc_per_node=8", "x.py"), {"data_parallel": 1}, "8"),
        (("python", "x.py"), {"data_parallel": 1}, None),
    ],
)
def test_what_the_command_asks_for(words, identity, ranks):
    assert tensor_parallel_asked(words, identity) == ranks


def test_all_ranks_of_a_launch():
    assert ranks_asked(NODES) == "16"
