"""What the links of a group allow."""

from typing import Any

import pytest
from llmval_runners.collective.expected import all_reduce_bound, line_rate_of_group, line_rate_of_pair, pair_bound

from tests.helpers.collective_records import gpu


def paths(gpus: list[dict[str, Any]], kinds: dict[tuple[int, int], tuple[str | None, int]]) -> list[dict[str, Any]]:
    found = []
    for one in gpus:
        for other in gpus:
            if one is not other:
                path, links = kinds.get((one["rank"], other["rank"]), (None, 0))
                line = line_rate_of_pair(one, other, path, links)
                found.append(
                    {
                        "from": one["rank"], "to": other["rank"], "links": links, "kind": line["kind"],
                        "line_gb_per_s": line["gb_per_s"], "reason": line["reason"],
                    }
                )  # fmt: skip
    return found


def rate(gpus: list[dict[str, Any]], kinds: dict[tuple[int, int], tuple[str | None, int]]) -> tuple[str, Any]:
    found = line_rate_of_group(gpus, paths(gpus, kinds))
    return found["kind"], found["gb_per_s"]


def every(count: int, path: str | None, links: int) -> dict[tuple[int, int], tuple[str | None, int]]:
    return {(a, b): (path, links) for a in range(count) for b in range(count) if a != b}


def test_through_a_switch_a_gpu_sends_over_all_its_links() -> None:
    assert rate([gpu(0), gpu(1), gpu(2)], every(3, "NV18", 18)) == ("NVLink", 450.0)
    assert rate([gpu(0), gpu(1, active=17), gpu(2)], every(3, "NV18", 18)) == ("NVLink", 425.0)


def test_with_direct_links_only_those_to_the_group_count() -> None:
    four = [gpu(rank, to_switch=0, active=12, links=12) for rank in range(4)]
    assert rate(four, every(4, "NV4", 4)) == ("NVLink", 300.0)
    assert rate(four[:2], every(2, "NV4", 4)) == ("NVLink", 100.0)


def test_one_pair_without_nvlink_makes_rings_cross_pcie() -> None:
    mixed = every(3, "NV4", 4) | {(0, 2): ("SYS", 0), (2, 0): ("SYS", 0)}
    assert rate([gpu(rank, to_switch=0) for rank in range(3)], mixed) == ("PCIe", pytest.approx(63.008))


def test_between_nodes_only_an_nvlink_domain_is_known() -> None:
    apart = [gpu(0, "a"), gpu(1, "b")]
    assert rate(apart, {}) == ("network", None)
    for one in apart:
        one["fabric"] = {"cluster_uuid": "x", "clique_id": 1}
    assert rate(apart, {}) == ("NVLink", 450.0)
    apart[1]["fabric"] = {"cluster_uuid": "x", "clique_id": 2}
    assert rate(apart, {}) == ("network", None)


def test_an_unknown_rate_is_none_with_a_reason() -> None:
    unknown = [gpu(0, link_gb_per_s=None), gpu(1)]
    assert rate(unknown, every(2, "NV18", 18)) == ("NVLink", None)
    assert line_rate_of_group(unknown, paths(unknown, every(2, "NV18", 18)))["reason"]
    assert rate([gpu(0), gpu(1)], every(2, None, 0)) == ("unknown", None)
    assert line_rate_of_group([gpu(0)], [])["reason"] == "one rank: nothing crosses a link"


def test_no_bound_blesses_a_sick_node() -> None:
    """Figures of faults: PCIe or shared memory in place of NVLink, half of the links, and a published low figure."""
    for ranks, busbw, line in ((2, 50.0, 450.0), (8, 225.0, 450.0), (8, 273.5, 900.0), (2, 225.0, 450.0)):
        bound = all_reduce_bound("NVLink", ranks)
        assert bound is not None and busbw < bound.share * line
    for ranks, busbw, line in ((2, 309.0, 450.0), (8, 370.0, 450.0), (8, 475.0, 450.0)):
        bound = all_reduce_bound("NVLink", ranks)
        assert bound is not None and busbw >= bound.share * line
    copied, sent = pair_bound("NVLink", "copy_engine"), pair_bound("NVLink", "nccl")
    assert copied is not None and sent is not None
    assert 225 / 450 < copied.share < 380 / 450
    assert sent.share > 63 / 450
    assert all_reduce_bound("PCIe", 8) is None and all_reduce_bound("NVLink", 1) is None
