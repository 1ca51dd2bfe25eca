"""Every kind of hang, made on two real ranks and judged from outside. Slow: each needs torch twice and a stall."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.selftest import trials
from llmval_runners.process.files import read_json

SCHEMA = Path(__file__).parents[4] / "docs" / "schemas" / "compile_repro.schema.json"


def valid(folder: Path) -> dict[str, Any]:
    result = read_json(Layout(folder).result)
    fastjsonschema.compile(read_json(SCHEMA))(result)
    assert result is not None
    return result


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """All of them, three at a time: most of each is waiting. With less patience than the self-test has."""
    root = tmp_path_factory.mktemp("hangs")
    trials.STALL_AFTER_S = 10.0
    with ThreadPoolExecutor(3) as pool:
        yield {
            **{kind: pool.submit(trials.inject, kind, root / kind) for kind in trials.EXPECTED},
            "faulthandler": pool.submit(
                trials.inject, "blocked_read", root / "faulthandler", rank=0, extra=("--stacks", "faulthandler")
            ),
            "folder": root,
        }


@pytest.mark.slow
@pytest.mark.parametrize("kind", trials.EXPECTED)
def test_the_kind_and_the_rank_are_named_in_time(kind: str, judged: dict[str, Any]) -> None:
    found, root = judged[kind].result(), judged["folder"] / kind
    assert found.right, (found, root.with_suffix(".log").read_text()[-2000:])
    result = valid(root)
    assert result["injected"] == kind and result["ended_by"] == "stalled"
    assert "### Versions" in (root / "bug_report.md").read_text() and (root / "bundle.tar.gz").stat().st_size > 0
    assert list((root / "stacks").glob("rank*.stall1.py-spy.txt"))
    if kind == "stopped_worker":
        assert any("stopped (state T)" in reason for reason in result["verdict"]["reasons"])


@pytest.mark.slow
def test_without_py_spy_faulthandler_answers_and_it_is_said(judged: dict[str, Any]) -> None:
    found = judged["faulthandler"].result()
    assert found.right and found.ranks == [0] and found.source == "faulthandler", found
    stacks = judged["folder"] / "faulthandler" / "stacks"
    assert "inject.py" in (stacks / "rank0.faulthandler.txt").read_text()
