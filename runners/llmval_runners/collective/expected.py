"""The bandwidth that the links of a group of GPUs allow, and the share of it that a healthy node reaches. No torch.

Line rates come from NVIDIA's datasheets (`measure/nvml_links.py`). No program reaches them: NVLink's protocol takes
about a fifth. So the bounds below are shares of the line rate, a little under what healthy machines were measured to
reach, each with its source. They find a node that is far off (a path over PCIe or shared memory, half of the links).
Two links lost of eighteen stay within them: the number of active links and the comparison of the pairs find those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NVLINK, PCIE, NETWORK, UNKNOWN = "NVLink", "PCIe", "network", "unknown"


@dataclass(frozen=True, slots=True)
class Bound:
    """The least share of the line rate, and where it comes from."""

    share: float
    source: str


# By path; the all-reduce by its number of ranks too.
PAIR_BOUNDS = {
    NVLINK: Bound(
        0.75, "H100 380 of 450 GB/s (0.84) one way, 749 of 900 both ways: github.com/NVIDIA/nccl/issues/1264"
    ),
    PCIE: Bound(0.55, "PCIe 4.0 x16 21.8 to 26.3 of 31.5 GB/s (0.69 to 0.84): github.com/NVIDIA/nvbandwidth/issues/50"),
}
# It only finds a pair whose data does not cross NVLink at all.
SEND_RECV_BOUND = Bound(
    0.20, "above what PCIe can carry (5.0 x16: 63 GB/s, 0.14 of 450): NCCL's figure depends on its channels"
)
ALL_REDUCE_BOUNDS = {
    2: Bound(0.60, "2 H200, NVLS off, 309 of 450 GB/s (0.69), NVML's counters agreeing"),
    3: Bound(0.70, "8 H100, ring, 370 of 450 GB/s (0.82): github.com/NVIDIA/nccl-tests/issues/212"),  # and more ranks
}


def line_rate_of_pair(one: Mapping[str, Any], other: Mapping[str, Any], path: str | None, links: int) -> dict[str, Any]:
    """`kind`, `gb_per_s` in one direction (None: unknown) and `reason`.

    `one` and `other` are GPUs of the record; `path` and `links` are from `NvmlLinks.path`, None and 0 between hosts.
    """
    nvlink, peer = one["nvlink"], other["nvlink"]
    if one["host"] != other["host"]:
        if one["fabric"] and one["fabric"] == other["fabric"] and nvlink and peer:
            return _rate(NVLINK, _least(nvlink["active"] * _known(nvlink), peer["active"] * _known(peer)))
        return _rate(NETWORK, None, "the rate of the network between the nodes is not read")
    if links and nvlink and peer:
        return _rate(NVLINK, _least(links * _known(nvlink), links * _known(peer)))
    if path is None or not one["pcie"] or not other["pcie"]:
        return _rate(UNKNOWN, None, "the driver does not report the path between these GPUs")
    if one["pcie"]["gb_per_s"] is None or other["pcie"]["gb_per_s"] is None:
        return _rate(PCIE, None, "the driver does not report the generation and width of PCIe")
    return _rate(PCIE, min(one["pcie"]["gb_per_s"], other["pcie"]["gb_per_s"]))


def line_rate_of_group(gpus: Sequence[Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The bandwidth with which the slowest rank can send to the group: `kind`, `gb_per_s` and `reason`.

    `pairs`: `from`, `to`, `kind`, `links`, `line_gb_per_s` of every ordered pair. Through an NVLink switch a GPU sends
    over all its links; with direct links, over those to GPUs of the group. One pair without NVLink makes rings cross
    PCIe.
    """
    kinds = {str(pair["kind"]) for pair in pairs}
    if kinds == {NVLINK}:
        rates = []
        for gpu in gpus:
            nvlink = gpu["nvlink"]
            direct = sum(pair["links"] for pair in pairs if pair["from"] == gpu["rank"])
            rates.append((nvlink["active"] if nvlink["to_switch"] else direct) * _known(nvlink))
        return _rate(NVLINK, _least(*rates))
    for kind in (NETWORK, UNKNOWN, PCIE):
        if kind in kinds:
            of_kind = [pair["line_gb_per_s"] for pair in pairs if pair["kind"] == kind]
            if kind == PCIE and None not in of_kind:
                return _rate(PCIE, min(of_kind))
            reasons = [str(pair["reason"]) for pair in pairs if pair["kind"] == kind and pair["reason"]]
            return _rate(kind, None, reasons[0] if reasons else "a path is not known")
    return _rate(UNKNOWN, None, "one rank: nothing crosses a link" if len(gpus) == 1 else "no links are known")


def all_reduce_bound(kind: str, ranks: int) -> Bound | None:
    """The least share for an all-reduce of large tensors; None: no figure is known for this topology."""
    return ALL_REDUCE_BOUNDS[min(ranks, 3)] if kind == NVLINK and ranks > 1 else None


def pair_bound(kind: str, method: str) -> Bound | None:
    """The least share for one pair; None: no figure is known. NCCL's path between GPUs without NVLink depends on the
    node, and what our SM kernel reaches is not the link's."""
    if method == "copy_engine":
        return PAIR_BOUNDS.get(kind)
    return SEND_RECV_BOUND if kind == NVLINK and method == "nccl" else None


def _rate(kind: str, rate: float | None, reason: str = "") -> dict[str, Any]:
    if rate is not None and not rate > 0:  # also NaN, from an unknown rate of a link
        return {"kind": kind, "gb_per_s": None, "reason": "the driver does not report the rate of an NVLink"}
    return {"kind": kind, "gb_per_s": rate, "reason": reason}


def _known(nvlink: Mapping[str, Any]) -> float:
    rate = nvlink["link_gb_per_s"]
    return float("nan") if rate is None else float(rate)


def _least(*rates: float) -> float:
    return float("nan") if any(rate != rate for rate in rates) else min(rates)
