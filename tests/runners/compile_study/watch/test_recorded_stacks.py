"""The classifier on stacks of real stalls, recorded by `python -m benchmarks.stall_stacks`. Starts no process."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from llmval_runners.compile_study.watch.stall_location import UNKNOWN, locate

from llmval_tui.foundation.paths import bundled

RECORDED = Path(__file__).with_name("recorded")
STALLS = [
    pytest.param(stall, id=f"{file.stem}:{stall['name']}")
    for file in sorted(RECORDED.glob("*.json"))
    for stall in json.loads(file.read_text())
]
ALL: list[dict[str, Any]] = [one.values[0] for one in STALLS]  # type: ignore[misc]


@pytest.mark.parametrize("stall", STALLS)
def test_a_recorded_stall_is_located(stall: dict[str, Any]) -> None:
    finding = locate(stall["evidence"])
    assert finding.kind in stall["expected"], finding.reasons


@pytest.mark.parametrize("stall", STALLS)
def test_a_stack_of_faulthandler_is_located_alike(stall: dict[str, Any]) -> None:
    # faulthandler does not qualify functions, and gives at most 100 frames, the innermost ones.
    stack = stall["evidence"]["stack"]
    frames = [frame | {"function": frame["function"].rpartition(".")[2]} for frame in stack["main"][:100]]
    plain = stall["evidence"] | {"stack": stack | {"source": "faulthandler", "main": frames}}
    assert locate(plain).kind == locate(stall["evidence"]).kind


@pytest.mark.parametrize("stall", STALLS)
def test_without_its_deciding_frames_a_stall_is_unknown_or_right(stall: dict[str, Any]) -> None:
    """Half of a stack may say less, never something wrong, as long as the innermost frames are there."""
    stack = stall["evidence"]["stack"]
    half = stall["evidence"] | {"stack": stack | {"main": stack["main"][: max(1, len(stack["main"]) // 2)]}}
    assert locate(half).kind in (*stall["expected"], UNKNOWN)


def test_few_stalls_stay_unknown() -> None:
    unknown = [one["name"] for one in ALL if locate(one["evidence"]).kind == UNKNOWN and one["expected"] != [UNKNOWN]]
    assert len(unknown) <= len(ALL) / 10, unknown


def test_the_documented_table_is_what_the_classifier_says() -> None:
    text = (bundled("docs") / "torch_compile_playbook.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    counted: dict[str, list[int]] = {}
    for one in ALL:
        kind, expected = locate(one["evidence"]).kind, one["expected"]
        row = counted.setdefault(expected[0], [0, 0, 0, 0])
        row[0] += 1
        row[1 if kind in expected else 2 if kind == UNKNOWN else 3] += 1
    assert {name: [int(number) for number in numbers] for name, *numbers in rows} == counted
