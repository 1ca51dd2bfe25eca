"""The record in the layout of nccl-tests' `-J FILE.json` (its src/util.cu, version 3), so that other tools read it.

nccl-tests measures one collective a run, so each operation and mode gets a file of its own.
"""

from collections.abc import Mapping
from typing import Any

from llmval_runners.collective.operations import BY_NAME

VERSION = 3
_TYPES = {"float32": "float", "bfloat16": "bfloat16", "int32": "int32"}


def layouts(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """File name → content, for every operation and mode that has a figure."""
    found = {}
    settings = record["settings"]
    for operation in dict.fromkeys(one["operation"] for one in record["rows"]):
        for mode in settings["modes"]:
            rows = [
                one for one in record["rows"]
                if (one["operation"], one["mode"]) == (operation, mode) and one["algbw_gb_per_s"] is not None
            ]  # fmt: skip
            if rows:
                program = BY_NAME[operation].program
                name = f"{program}{'_graph' if mode == 'graph' else ''}.json"
                found[name] = _layout(record, program, mode, rows)
    return found


def _layout(record: Mapping[str, Any], program: str, mode: str, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    settings, ranks = record["settings"], len(record["gpus"])
    busbws = [_busbw(one, ranks) for one in rows]
    wrong = sum(_wrong(one) or 0 for one in rows)
    return {
        "version": VERSION,
        "start_time": record["date"],
        "args": ["collective_bandwidth.py", program],
        "env": [f"{key}={value}" for key, value in record["environment"].items()],
        "nccl_version": _nccl_code(record["versions"]["nccl"]),
        "config": {
            "nthreads": 1,
            "ngpus": 1,
            "minimum_bytes": settings["min_bytes"],
            "maximum_bytes": settings["max_bytes"],
            "step_factor": settings["factor"],
            "warmup_iters": settings["warmup"],
            "iterations": settings["iterations"],
            "aggregated_iterations": 1,
            "validation": 1,
            "graph": int(mode == "graph"),
            "blocking_collectives": "false",
            "parallel_init": "false",
            "devices": [
                {
                    "rank": gpu["rank"],
                    "group": 0,
                    "pid": gpu["pid"],
                    "hostname": gpu["host"],
                    "device": gpu["local_rank"],
                    "device_hex": gpu["pci_bus_id"],
                    "device_info": gpu["name"],
                }
                for gpu in record["gpus"]
            ],
        },
        "results": [_result(one, ranks) for one in rows],
        "out_of_bounds": {"count": int(wrong), "okay": "false" if wrong else "true"},
        "average_bus_bandwidth": {"bandwidth": sum(busbws) / len(busbws), "okay": "unchecked"},
        "end_time": record["date"],
        "errors": [],
    }


def _result(one: Mapping[str, Any], ranks: int) -> dict[str, Any]:
    operation = BY_NAME[one["operation"]]
    measured = {
        "time": one["time_us"],
        "alg_bw": one["algbw_gb_per_s"],
        "bus_bw": _busbw(one, ranks),
        "nwrong": _wrong(one),
    }
    return {
        "size": one["bytes"],
        "count": one["elements"] // ranks if operation.shared else one["elements"],
        "type": _TYPES[one["dtype"]],
        "redop": "sum" if operation.reduces else "none",
        "root": "0" if operation.name == "broadcast" else "-1",
        "out_of_place": None if operation.in_place else measured,
        "in_place": measured if operation.in_place else None,
        "actual_iterations": one["iterations"],
        "experiment_name": None,
    }


def _busbw(one: Mapping[str, Any], ranks: int) -> float:
    """GB/s; 0 with one rank, as nccl-tests has it."""
    return float(one["algbw_gb_per_s"] * BY_NAME[one["operation"]].bus_factor(ranks))


def _wrong(one: Mapping[str, Any]) -> int | None:
    """Wrong elements in the measured type and in integers; None if either was not checked."""
    checks = [one["wrong"]] if one["dtype"] == "int32" else [one["wrong"], one["wrong_int32"]]
    return None if None in checks else sum(checks)


def _nccl_code(version: str | None) -> int | None:
    """As NCCL_VERSION_CODE: 2.27.3 is 22703."""
    if version is None:
        return None
    parts = [int(part) for part in version.split(".")[:3]]
    major, minor, patch = parts + [0] * (3 - len(parts))
    return major * 10000 + minor * 100 + patch
