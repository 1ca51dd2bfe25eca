"""Which ranks share the model (tensor parallel), and how many copies of it there are (data parallel). No torch."""

import argparse
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from llmval_runners.process.arguments import count
from llmval_runners.process.errors import Refused

FLAG = "--tensor-parallel-size"
DEFAULT = "of several nodes the ranks of one node, so that each node holds a replica; of one node all ranks"
NODE_NAME = "SLURMD_NODENAME"  # what the scheduler calls this node


def add_placement_flag(parser: argparse.ArgumentParser | argparse._ArgumentGroup, *other_names: str) -> None:
    """`--tensor-parallel-size`, as vLLM calls it. Its data-parallel size follows from the ranks."""
    parser.add_argument(
        FLAG, *other_names, dest="tensor_parallel_size", type=count, metavar="N",
        help="ranks that share one replica of the model; the other ranks hold further replicas (data parallel). "
        f"Default: {DEFAULT}. N ranks over all nodes: one replica for all",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Placement:
    """The place of a rank. A replica's ranks are consecutive, and the first of them leads it."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    tensor_parallel: int = 1

    @classmethod
    def of_this_process(cls, asked: int | None = None) -> "Placement":
        """From torchrun's environment. `asked`: the ranks of a replica; None: the default.

        Raises:
            Refused: the ranks make no whole replicas of that size, or one would lie on parts of nodes.
        """
        names = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
        rank, world, local = (int(os.environ.get(name, default)) for name, default in names)
        here = ranks_of_this_node(world)
        size = asked or min(here, world)
        if world % size:
            raise Refused(
                f"{world} ranks make no whole replicas of {FLAG} {size}: pass one that divides the number of ranks."
            )
        if here % size and size % here:
            raise Refused(
                f"{FLAG} {size} does not divide the {here} ranks of a node, so a replica would share a node with part "
                "of another one: pass a divisor of them, or all ranks of several nodes."
            )
        return cls(rank, world, local, here, size)

    @property
    def data_parallel(self) -> int:
        """The number of replicas."""
        return self.world_size // self.tensor_parallel

    @property
    def replica(self) -> int:
        return self.rank // self.tensor_parallel

    @property
    def tensor_rank(self) -> int:
        """The rank inside the replica."""
        return self.rank % self.tensor_parallel

    @property
    def first_rank(self) -> int:
        """The replica's first rank."""
        return self.replica * self.tensor_parallel

    @property
    def ranks(self) -> range:
        """The ranks of this replica."""
        return range(self.first_rank, self.first_rank + self.tensor_parallel)

    @property
    def leads(self) -> bool:
        return self.tensor_rank == 0

    def ranks_of(self, replica: int) -> tuple[int, int]:
        """The first and the last rank of a replica."""
        return replica * self.tensor_parallel, (replica + 1) * self.tensor_parallel - 1

    def name(self, replica: int, node: str | None = None) -> str:
        """`replica 1 (ranks 8 to 15 on n2)`."""
        first, last = self.ranks_of(replica)
        ranks = f"rank {first}" if first == last else f"ranks {first} to {last}"
        return f"replica {replica} ({ranks}{f' on {node}' if node else ''})"


def ranks_of_this_node(world_size: int) -> int:
    """Without torchrun's word for it (mpirun, plain srun), all ranks count as one node."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size))


def replica_path(path: Path, replica: int) -> Path:
    """Where a replica's leader keeps its own part: replica 0 at the record's path, `x.json` → `x.replica1.json`."""
    return path if replica == 0 else path.with_name(f"{path.stem}.replica{replica}{path.suffix}")


def node_name() -> str:
    """The name of this node: the scheduler's, else the host's."""
    return os.environ.get(NODE_NAME) or socket.gethostname()
