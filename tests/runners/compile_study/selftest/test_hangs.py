"""Every kind of hang, injected on two real ranks and judged from outside. Slow: each imports torch twice and stalls."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.selftest import trials

from tests.helpers.runners.study_process import valid


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """All kinds, three at a time, because most of the time is waiting.

    A stall is detected earlier than in the self-test. The verdict may take long here, because the machine may be busy.
    """
    root = tmp_path_factory.mktemp("hangs")
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(3) as pool:
        patch.setattr(trials, "STALL_AFTER_S", 10.0)
        patch.setattr(trials, "ANSWER_S", 120.0)
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
    result = valid(Layout(root))
    assert result["injected"] == kind and result["ended_by"] == "stalled"
    assert "### Versions" in (root / "bug_report.md").read_text() and (root / "bundle.tar.gz").stat().st_size > 0
    assert list((root / "stacks").glob("rank*.stall1.py-spy.txt"))
    if kind == "stopped_worker":
        assert any("stopped (state T)" in reason for reason in result["verdict"]["reasons"])


@pytest.mark.slow
def test_without_py_spy_the_stacks_come_from_faulthandler(judged: dict[str, Any]) -> None:
    found = judged["faulthandler"].result()
    assert found.right and found.ranks == [0] and found.source == "faulthandler", found
    stacks = judged["folder"] / "faulthandler" / "stacks"
    assert "inject.py" in (stacks / "rank0.faulthandler.txt").read_text()
