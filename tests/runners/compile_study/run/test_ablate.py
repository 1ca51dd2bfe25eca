"""The ablation: the flags of its variants, a hang in a variant, and a signal that ends it."""

import time
from pathlib import Path

import pytest
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.options import parse
from llmval_runners.compile_study.run import ablate
from llmval_runners.compile_study.watch.processes import children_of_all
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import read_json

from tests.helpers.runners.study_process import LIMIT_S, SMALL, start, valid

QUIET = EventLog(0, path="/dev/null")


def test_the_variants_are_those_that_maintainers_ask_for() -> None:
    backends = [variant.backend for variant in ablate.VARIANTS]
    assert backends[:3] == ["eager", "aot_eager", "aot_eager_decomp_partition"] and set(backends[3:]) == {"inductor"}
    one, cold, warm = ablate.VARIANTS[3:]
    assert one.environment == {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    assert (one.shared_cache, cold.shared_cache, warm.shared_cache) == (False, True, True), "warm: what cold has left"


def test_a_variant_runs_the_requested_workload(tmp_path: Path) -> None:
    options = parse([*SMALL.split(), "--compile-mode", "smart", "--timeout", "90", "--stall-after", "20",
                     "--output-dir", str(tmp_path), "--ablate"])  # fmt: skip
    again = parse([*ablate._flags(options), "--output-dir", str(tmp_path)])
    differing = {name for name, value in vars(options).items() if getattr(again, name) != value}
    assert differing == {"ablate"}


@pytest.mark.slow
def test_a_hang_is_found_in_each_variant_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path / "study")
    assert start(layout.root, "--backend", "eager", "--skip-eager").wait(LIMIT_S) == 0
    layout.make()
    monkeypatch.setattr(ablate, "VARIANTS", ablate.VARIANTS[:2])
    flags = [
        "--stall-after",
        "10",
        "--timeout",
        "600",
        "--inject-hang",
        "dynamo_sleep",
        "--output-dir",
        str(layout.root),
    ]
    ablate.ablate(parse([*SMALL.split(), *flags]), layout, QUIET, stopped=lambda: False)
    rows = (read_json(layout.root / "ablation.json") or {})["variants"]
    assert [(row["name"], row["outcome"], row["verdict"]) for row in rows] == [
        ("eager", "hang", "dynamo_tracing"),
        ("aot_eager", "hang", "dynamo_tracing"),
    ]
    folder = Layout(layout.root / "ablation" / "eager")
    assert valid(folder)["verdict"]["ranks"] == [1] and folder.archive.exists()


@pytest.mark.slow
def test_a_signal_ends_the_running_variant_and_starts_no_other(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "study")
    layout.make()
    first = layout.root / "ablation" / "eager" / "watch" / "rank0.heartbeat.json"
    flags = ["--timeout", "900", "--stall-after", "600", "--output-dir", str(layout.root)]
    began = time.monotonic()
    ablate.ablate(parse([*SMALL.split(), *flags]), layout, QUIET, stopped=first.exists)
    assert time.monotonic() - began < LIMIT_S, "it did not wait for the deadline of the variant"
    rows = (read_json(layout.root / "ablation.json") or {})["variants"]
    assert [(row["name"], row["outcome"]) for row in rows] == [("eager", "interrupted")]
    assert not any(str(layout.root) in process.command for own in children_of_all().values() for process in own)
