"""The flags of `collective_bandwidth.py`; parsing needs no torch."""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from llmval_runners.process.arguments import Parser, count, natural, positive
from llmval_runners.process.errors import Refused
from llmval_runners.process.output import Report, add_output_flags, take_output

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send_recv")
MODES = ("eager", "graph")
DTYPES = ("float32", "bfloat16", "int32")
PAIRS = ("all", "rounds", "none")
EXIT_CODES = (
    "Exit code: 0 ok; 1 wrong results, a slow GPU or pair, a bandwidth below its bound, or the test itself failed; "
    "2 refused; 3 inconclusive; 130, 143, 129 ended by SIGINT, SIGTERM, SIGHUP. Plain torchrun makes 1 of every code "
    "but 0. Under llmval, which judges the record itself: 0 if the record was written."
)
EXAMPLES = """\
examples:
  python collective_bandwidth.py                # every GPU of this node
  python collective_bandwidth.py --device cpu --max-bytes 64K
  python collective_bandwidth.py --pairs rounds --ranks-per-node 1
  torchrun --nproc_per_node=8 collective_bandwidth.py --output-json node.json
  torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d \\
      --rdzv_endpoint HOST:29500 collective_bandwidth.py
"""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def size(text: str) -> int:
    """Bytes of `8`, `64K`, `1G`; the units are powers of 1024, as in nccl-tests."""
    found = re.fullmatch(r"(\d+)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text} is not a size such as 8, 64K, 1M or 1G")
    return int(found[1]) * _UNITS[found[2].upper()]


def _factor(text: str) -> int:
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"{text} is not at least 2")
    return value


def parser() -> argparse.ArgumentParser:
    """The flags of the runner."""
    root = Parser(
        prog="collective_bandwidth.py",
        description="Measure the collectives that LLM serving uses, and every pair of GPUs, with PyTorch and NCCL "
        "(gloo on a CPU). Every result is checked. Names the GPU or the pair that is slower than the others, or slower "
        "than the links of this node allow. Plain Python starts a rank for every GPU of this node.",
        examples=EXAMPLES,
        exit_codes=EXIT_CODES,
    )
    what = root.add_argument_group("what is measured")
    listed = f"some of {','.join(OPERATIONS)} (default all)"
    what.add_argument("--operations", default=",".join(OPERATIONS), metavar="LIST", help=listed)
    what.add_argument("--min-bytes", type=size, default=8, metavar="SIZE", help="smallest size (default 8)")
    what.add_argument("--max-bytes", type=size, metavar="SIZE", help="largest size (default 1G; on a CPU 1M)")
    steps = "ratio of one size to the next (default 4); the largest size is always measured"
    what.add_argument("--factor", type=_factor, default=4, metavar="N", help=steps)
    modes = "eager, graph or both: calls from Python, or replays of a CUDA graph (default both; on a CPU eager)"
    what.add_argument("--modes", default=None, metavar="LIST", help=modes)
    dtype = f"{', '.join(DTYPES)} (default float32, as nccl-tests); integers are checked beside it"
    what.add_argument("--dtype", choices=DTYPES, default="float32", metavar="NAME", help=dtype)
    pairs = (
        "all: every ordered pair of ranks, by the backend, the copy engine and an SM kernel; rounds: every pair of "
        "nodes, N/2 pairs at once, then the ring; none (default all)"
    )
    what.add_argument("--pairs", choices=PAIRS, default="all", help=pairs)
    parts = "with --pairs rounds: count N ranks as a node, to try it on one machine"
    what.add_argument("--ranks-per-node", type=count, metavar="N", help=parts)
    pair = "size of a copy between two GPUs (default 256M, or --max-bytes if that is less)"
    what.add_argument("--pair-bytes", type=size, metavar="SIZE", help=pair)

    how = root.add_argument_group("how it is measured")
    how.add_argument("--warmup", type=natural, default=5, metavar="N", help="calls before each figure (default 5)")
    calls = "calls in one timing (default 20); fewer where they would take more than half a second"
    how.add_argument("--iterations", type=count, default=20, metavar="N", help=calls)
    how.add_argument("--repeats", type=count, default=5, metavar="N", help="timings; the median counts (default 5)")
    how.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    ranks = "ranks on this node, under plain Python only (default every GPU; on a CPU 2)"
    how.add_argument("--nproc-per-node", "--nproc_per_node", type=count, metavar="N", help=ranks)
    limit = "longest wait for another rank (default 120)"
    how.add_argument("--timeout", type=positive, default=120.0, metavar="S", help=limit)

    judged = root.add_argument_group("what is compared")
    least = "least busbw of the all-reduce at the largest size, in place of the reference for this topology"
    judged.add_argument("--min-busbw", type=positive, metavar="GB/S", help=least)
    judged.add_argument("--baseline", type=Path, metavar="FILE", help="an earlier record of this node, to compare with")
    tolerance = "how much less than the baseline is good (default 5)"
    judged.add_argument("--tolerance", type=positive, default=5.0, metavar="PERCENT", help=tolerance)

    add_output_flags(root, "; beside it a folder .nccl-tests has the same in the layout of nccl-tests' -J")
    return root


@dataclass(frozen=True, slots=True)
class CollectiveOptions:
    """The parsed flags. None: the default depends on the device."""

    operations: tuple[str, ...]
    min_bytes: int
    max_bytes: int | None
    factor: int
    modes: tuple[str, ...] | None
    dtype: str
    pairs: str
    ranks_per_node: int | None
    pair_bytes: int | None
    warmup: int
    iterations: int
    repeats: int
    device: str
    nproc_per_node: int | None
    timeout_s: float
    min_busbw: float | None
    baseline: Path | None
    tolerance_percent: float
    output_json: Path | None
    report: Report


def parse(argv: list[str]) -> CollectiveOptions:
    """Parse; raises Refused."""
    found = parser().parse_args(argv)
    if found.max_bytes is not None and found.max_bytes < found.min_bytes:
        raise Refused(f"--max-bytes {found.max_bytes} is less than --min-bytes {found.min_bytes}: swap them.")
    modes = None if found.modes is None else _choices("--modes", found.modes, MODES)
    if found.device == "cpu" and modes is not None and "graph" in modes:
        raise Refused("a CPU has no CUDA graphs: pass --modes eager, or leave --modes out.")
    if found.ranks_per_node is not None and found.pairs != "rounds":
        raise Refused("--ranks-per-node is for --pairs rounds: pass both, or leave it out.")
    path, report = take_output(found)
    return CollectiveOptions(
        operations=_choices("--operations", found.operations, OPERATIONS),
        min_bytes=found.min_bytes,
        max_bytes=found.max_bytes,
        factor=found.factor,
        modes=modes,
        dtype=found.dtype,
        pairs=found.pairs,
        ranks_per_node=found.ranks_per_node,
        pair_bytes=found.pair_bytes,
        warmup=found.warmup,
        iterations=found.iterations,
        repeats=found.repeats,
        device=found.device,
        nproc_per_node=found.nproc_per_node,
        timeout_s=found.timeout,
        min_busbw=found.min_busbw,
        baseline=found.baseline,
        tolerance_percent=found.tolerance,
        output_json=path,
        report=report,
    )


def sizes(smallest: int, largest: int, factor: int) -> list[int]:
    """The sizes in bytes: `smallest`, each `factor` times the one before, and `largest`."""
    found = [smallest]
    while found[-1] * factor < largest:
        found.append(found[-1] * factor)
    return found if found[-1] == largest else [*found, largest]


def _choices(flag: str, text: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    values = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if wrong := [value for value in values if value not in allowed]:
        raise Refused(f"{flag} {wrong[0]!r} is not one of {', '.join(allowed)}: pass some of these, with commas.")
    return values
