"""The configuration of nodes, and what differs from the majority."""

import pytest

from llmval_tui.fleet.configuration import collect, configuration
from llmval_tui.fleet.differences import NOT_SET, differences, fewer_gpus, of_node
from llmval_tui.foundation.files import to_json

NCCL, QUIET = {"nvidia-nccl-cu13": "2.28"}, {"NCCL_DEBUG": "WARN"}


def host(gpus=8, driver="580.159.04", **more):
    listed = [
        {
            "index": at, "name": "NVIDIA H200", "power_limit_w": 700.0, "ecc_enabled": True, "vbios_version": "96.00",
            "nvlink_links": 18, "nvlink_links_active": 18, "memory_total_bytes": 150_754_820_096, "mig_enabled": False,
            "sm_clock_max_mhz": 1980,
        }
        for at in range(gpus)
    ]  # fmt: skip
    ports = [{"state": "4: ACTIVE", "rate": "400"}]
    nics = [{"name": f"mlx5_{at}", "firmware": "28.39", "ports": ports} for at in (0, 1)]
    gpu = {"driver_version": driver, "gpus": listed}
    return {"kernel": "5.15", "memory_bytes": 2 << 40, "gpu": gpu, "nics": nics, **more}


def node(environment=None, versions=None, **more):
    return configuration(host(**more), versions or NCCL, environment or QUIET)


def test_equal_nodes_have_no_differences():
    assert differences({f"n{at}": node() for at in range(8)}) == []


def test_the_node_with_seven_of_eight_gpus_is_named_first():
    nodes = {f"n{at}": node() for at in range(8)}
    nodes["n2"] = node(driver="570.1", versions={"nvidia-nccl-cu13": "2.27"}, kernel="6.1", environment={"NCCL_X": "1"})
    nodes["n5"] = node(gpus=7)
    found = differences(nodes)
    assert (found[0].key, found[0].majority, found[0].nodes) == ("gpu_count", 8, {"n5": 7})
    assert fewer_gpus(found) == {"n5": "7 of 8 GPUs answer"}
    assert [one.key for one in found[1:]] == ["driver", "kernel", "nvidia-nccl-cu13", "env.NCCL_DEBUG", "env.NCCL_X"]
    assert found[-1].nodes == {"n2": "1"} and found[-1].majority == NOT_SET
    assert of_node(found, "n2")[0] == "driver 570.1, most have 580.159.04"


def test_one_gpu_that_differs_is_named_within_its_node():
    odd = host()
    odd["gpu"]["gpus"][6] |= {"nvlink_links_active": 14, "ecc_enabled": False, "power_limit_w": 500.0}
    nodes = {f"n{at}": node() for at in range(3)} | {"n9": configuration(odd, {}, {})}
    found = {one.key: one.nodes for one in differences(nodes)}
    assert found["nvlink_active"] == {"n9": "18; GPU 6: 14"}
    assert found["ecc"] == {"n9": "on; GPU 6: off"} and found["power_limit_w"] == {"n9": "700.0; GPU 6: 500.0"}


def test_a_lost_gpu_does_not_count():
    lost = host()
    lost["gpu"]["gpus"][3] = {"index": 3, "name": None}
    assert configuration(lost, {}, {})["gpu_count"] == 7
    assert configuration({"gpu": {"error": "no answer"}}, {}, {})["gpu_count"] is None


def test_two_halves_have_no_majority_and_all_are_listed():
    found = differences({"a": node(), "b": node(driver="570")})
    assert [(one.key, one.majority, len(one.nodes)) for one in found] == [("driver", None, 2)]


def test_what_is_not_known_is_null_and_a_silent_node_is_left_out():
    unknown = host()
    del unknown["kernel"]
    nodes = {
        "a": node(),
        "b": node(),
        "c": configuration(unknown, {"nvidia-nccl-cu13": "2.28"}, {"NCCL_DEBUG": "WARN"}),
    }
    found = differences(nodes | {"silent": {}})
    assert [(one.key, one.nodes) for one in found] == [("kernel", {"c": None})]


def test_the_order_of_the_nodes_changes_nothing():
    nodes = {"a": node(), "b": node(driver="570"), "c": node(driver="570"), "d": node()}
    assert to_json(differences(nodes)) == to_json(differences(dict(reversed(nodes.items()))))


def test_a_firmware_and_a_port_that_is_down():
    odd = host()
    odd["nics"][1] = {"name": "mlx5_1", "firmware": "28.38", "ports": [{"state": "1: DOWN", "rate": "10"}]}
    found = {
        one.key: one.nodes["n9"]
        for one in differences({"a": node(), "b": node(), "n9": configuration(odd, NCCL, QUIET)})
    }
    assert found == {
        "nic_ports_active": 1, "nic_rate": "1 × 10, 1 × 400", "nic_firmware": "1 × 28.38, 1 × 28.39"
    }  # fmt: skip


def test_this_node_can_be_collected(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    found = collect(sys.executable)
    assert found["kernel"] and found["python"] and found["env.NCCL_DEBUG"] == "INFO" and found["nic_count"] is not None
