"""Which ranks share a replica: by default those of a node, and never parts of two nodes."""

import pytest
from llmval_runners.process.errors import Refused
from llmval_runners.process.placement import Placement


@pytest.fixture
def place(monkeypatch):
    def make(rank: int, world: int, here: int | None, asked: int | None = None) -> Placement:
        values = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank % (here or world), "LOCAL_WORLD_SIZE": here}
        for name, value in values.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, str(value))
        return Placement.of_this_process(asked)

    return make


@pytest.mark.parametrize(
    ("rank", "world", "here", "asked", "ranks", "copies", "replica", "inside"),
    [
        (5, 8, 8, None, 8, 1, 0, 5),  # one node: all ranks share the model, as without replicas
        (5, 8, 4, None, 4, 2, 1, 1),  # two nodes: one replica each
        (5, 8, 4, 8, 8, 1, 0, 5),  # one replica over both
        (5, 8, 4, 2, 2, 4, 2, 1),  # two on each node
        (13, 16, 4, 8, 8, 2, 1, 5),  # each over two nodes
        (1, 2, None, None, 2, 1, 0, 1),  # nobody says how many ranks a node has
    ],
)
def test_where_a_rank_is(place, rank, world, here, asked, ranks, copies, replica, inside):
    found = place(rank, world, here, asked)
    assert (found.tensor_parallel, found.data_parallel, found.replica, found.tensor_rank) == (
        ranks, copies, replica, inside,
    )  # fmt: skip
    assert found.leads == (inside == 0) and rank in found.ranks
    assert found.name(replica, "n1").startswith(f"replica {replica} (rank")


@pytest.mark.parametrize(
    ("world", "here", "asked", "words"),
    [
        (8, 4, 3, "8 ranks make no whole replicas of --tensor-parallel-size 3: pass one that divides"),
        (12, 6, 4, "--tensor-parallel-size 4 does not divide the 6 ranks of a node"),
        (2, 2, 4, "2 ranks make no whole replicas of --tensor-parallel-size 4"),
    ],
)
def test_what_makes_no_whole_replicas_is_refused(place, world, here, asked, words):
    with pytest.raises(Refused, match=words):
        place(0, world, here, asked)
