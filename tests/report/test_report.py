"""The report: the facts of the run folder in three formats, escaped, accessible and offline."""

import argparse
import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest

from llmval_tui.checklist.model import load
from llmval_tui.console.report import report
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import sha256_of
from llmval_tui.foundation.paths import bundled
from llmval_tui.report.build import render
from llmval_tui.report.comparison.sides import side
from llmval_tui.report.facts import gather, runs_for
from llmval_tui.runs.evidence import archive
from llmval_tui.runs.records import Gate, Outcome
from llmval_tui.runs.store import Run, RunStore
from llmval_tui.telemetry.sample import EngineSample, GpuSample, HostSample, Note, Sample, ServerProcess, TimeTotal
from tests.report.conftest import WALL_NS, ZERO_NS, Workspace, result_json

EVIL = '<script>alert(1)</script> [/red] \x1b[31m\x1b]0;title\x07 "q" \u202eflip | `tick`'


class Page(HTMLParser):
    """Parses a page and checks that its tags are balanced."""

    VOID = frozenset({"meta", "br", "link", "img", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, *names: str) -> list[tuple[str, dict[str, str | None]]]:
        return [tag for tag in self.tags if tag[0] in names]


def record(run: Run, count: int = 30, gpus: int = 2, **gpu: Any) -> None:
    """Write one sample per second from `ZERO_NS`; samples 10 to 19 are missing, and GPU 1 has no power reading."""
    lines = []
    for second in range(count):
        if 10 <= second < 20:
            continue
        found = [
            GpuSample(index, name="NVIDIA H200", sm_util_percent=50.0 + second, power_w=None if index == 1 else 400.0,
                      temperature_c=60.0, **gpu)
            for index in range(gpus)
        ]  # fmt: skip
        at = second * 10**9
        notes = [Note("nvml", "x", EVIL)] if second == 0 else []
        lines.append(Sample(WALL_NS + at, ZERO_NS + at, HostSample(cpu_percent=10.0), found, notes).to_line())
    run.telemetry.write_bytes(b"".join(lines))


def made(workspace: Workspace, form: str, names: tuple[str, ...] = ()) -> str:
    checklist = load(workspace.folder / "docs" / "llm_validation_checklist.md")
    return render(gather(workspace.store, runs_for(workspace.store, names, checklist), checklist), form)


@pytest.fixture
def full(workspace: Workspace) -> Run:
    """A run with everything that a report can show."""
    run = workspace.run(
        gates=[Gate("exit: main", Outcome.PASS, "exit 0", "exit 0"), Gate("rate", Outcome.FAIL, "7", "8", "too slow")],
        outcome=Outcome.FAIL,
        deviations=["4 GPUs instead of 8"],
        environment={"NCCL_P2P_LEVEL": "NVL"},
    )
    workspace.events(
        run,
        (0.0, "phase", {"name": "setup"}),
        (2.0, "phase", {"name": "measure", "message": "go"}),
        (3.0, "metrics", {"offered_qps": 8.0, "completed_qps": 7.5, "ttft_p50_ms": None}),
        (4.0, "metrics", {"offered_qps": 8.0, "completed_qps": 7.6, "ttft_p50_ms": None}),
        (25.0, "phase", {"name": "drain"}),
        (26.0, "warning", {"code": "w", "message": "late"}),
    )
    record(run)
    return run


def test_a_steps_number_names_its_newest_run(workspace: Workspace) -> None:
    checklist = load(workspace.folder / "docs/llm_validation_checklist.md")
    with pytest.raises(Refused, match=r"step 1\.1 of llm_validation_checklist\.md has no run: "):
        runs_for(workspace.store, ["1.1"], checklist)
    first, newest = workspace.run(), workspace.run()
    for given in (checklist, None):
        assert [run.id for run in runs_for(workspace.store, ["1.1", first.id], given)] == [newest.id, first.id]


def test_the_page_is_self_contained_and_every_table_and_plot_has_a_description(workspace: Workspace, full: Run) -> None:
    text = made(workspace, "html")
    page = Page(text)
    assert not page.named("script", "link", "img", "iframe", "object")
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')>\s]+)""", text)
    assert addresses and all(address.startswith("#") for address in addresses)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    assert page.named("th") and all(attrs.get("scope") in ("col", "row") for _, attrs in page.named("th"))
    assert len(page.named("caption")) == len(page.named("table"))
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    plots = page.named("svg")
    assert len(plots) >= 8
    for _, attrs in plots:
        assert attrs["role"] == "img" and set((attrs["aria-labelledby"] or "").split()) <= set(ids)
    assert {(attrs["href"] or "")[1:] for _, attrs in page.named("a")} <= set(ids)


def test_the_facts_are_in_all_three_formats(workspace: Workspace, full: Run) -> None:
    sha = sha256_of(workspace.folder / "artifacts" / "r1.json")
    for form in ("html", "md", "json"):
        text = Page(made(workspace, form)).text if form == "html" else made(workspace, form).replace("\\", "")
        for fact in (full.id, sha, "too slow", "4 GPUs instead of 8", "NCCL_P2P_LEVEL", "late", "node1", "123.25"):
            shown = fact if form == "json" or fact != "123.25" else "123.2"
            assert shown in text, (form, fact)


def test_the_command_that_repeats_a_run_names_its_list(workspace: Workspace) -> None:
    """Without the list, `llmval run 1.1` takes another list's item, or none."""
    workspace.run(preset="smoke")
    again = "llmval run 1.1 --checklist docs/llm_validation_checklist.md --preset smoke\n"
    assert again in made(workspace, "md")


def test_a_missing_value_is_named_and_never_drawn_as_zero(workspace: Workspace, full: Run) -> None:
    page = made(workspace, "html")
    power = next(svg for svg in re.findall(r"<svg.*?</svg>", page) if "GPU power" in svg)
    assert "GPU 1 NVIDIA H200: not available" in power  # in the description of the plot
    assert power.count('class="line s0"') == 1 and "not available: no value was recorded" in power
    value = json.loads(made(workspace, "json"))["runs"][0]["telemetry"]
    assert value["gpus"][1]["readings"]["power_w"]["whole_run"]["mean"] is None
    assert value["gpus"][1]["readings"]["power_w"]["whole_run"]["without_value"] == 20
    # an unavailable metric does not look like zero
    assert re.search(r"goodput_qps</code></th><td class=\"n\">not available<", page)
    assert re.search(r"failed_requests</code></th><td class=\"n\">0<", page)


def test_a_gap_in_the_recording_breaks_every_line(workspace: Workspace, full: Run) -> None:
    page = made(workspace, "html")
    utilisation = next(svg for svg in re.findall(r"<svg.*?</svg>", page) if ">GPU utilisation" in svg)
    paths = re.findall(r'<path class="line s0" d="([^"]*)"', utilisation)
    assert len(paths) == 2 and all(path.count("M") == 2 for path in paths)
    assert json.loads(made(workspace, "json"))["runs"][0]["telemetry"]["gaps_s"] == [[9.0, 20.0]]


def test_telemetry_and_phases_share_one_axis(workspace: Workspace, full: Run) -> None:
    page = made(workspace, "html")
    plots = [svg for svg in re.findall(r"<svg.*?</svg>", page) if "time since" in svg]
    bands = {
        (x, width)
        for svg in plots
        for x, width in re.findall(r'class="(?:box )?measured" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)
    }
    assert len(plots) >= 7 and len(bands) == 1
    assert len({tuple(re.findall(r'text-anchor="middle">(\d+)<', svg)) for svg in plots}) == 1


def test_measured_figures_are_those_of_the_measured_window(workspace: Workspace, full: Run) -> None:
    reading = json.loads(made(workspace, "json"))["runs"][0]["telemetry"]["gpus"][0]["readings"]["sm_util_percent"]
    assert (reading["whole_run"]["least"], reading["whole_run"]["greatest"]) == (50.0, 79.0)
    assert (reading["measured"]["least"], reading["measured"]["greatest"]) == (52.0, 75.0)


def test_text_of_the_run_is_escaped(workspace: Workspace) -> None:
    run = workspace.run(
        gates=[Gate(EVIL, Outcome.FAIL, EVIL, EVIL, EVIL)], outcome=Outcome.FAIL, display=EVIL, deviations=[EVIL],
        environment={"NCCL_X": EVIL}, host={"name": EVIL, "gpu": {"gpus": [{"index": 0, "name": EVIL, "uuid": EVIL}]}},
        versions={EVIL: EVIL},
    )  # fmt: skip
    workspace.events(
        run,
        (0.0, "phase", {"name": EVIL, "message": EVIL}),
        (1.0, "metrics", {EVIL: 1.0, "offered_qps": 1.0}),
        (2.0, "warning", {"message": EVIL}),
    )
    record(run)
    page = made(workspace, "html")
    assert "<script" not in page.lower() and "[/red]" in page and "&lt;script&gt;" in page
    Page(page)
    markdown = made(workspace, "md")
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    for text in (page, markdown):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    # outside of code spans, every tag and bar of the text is escaped
    for line in tables:
        bare = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", line)
        assert not re.search(r"(?<!\\)<script", bare)


def test_markdown_rows_have_as_many_cells_as_their_header(workspace: Workspace, full: Run) -> None:
    workspace.run(gates=[Gate("a | b", Outcome.PASS, "`|`", "x\ny")])
    columns = 0
    for line in made(workspace, "md").splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1
        if not line.startswith("|"):
            columns = 0
        elif not columns:
            columns = cells
        else:
            assert cells == columns, line


def test_json_is_valid_by_its_schema(workspace: Workspace, full: Run) -> None:
    schema = json.loads((bundled("docs/schemas") / "report.schema.json").read_text())
    validate = fastjsonschema.compile(schema)
    validate(json.loads(made(workspace, "json")))
    with pytest.raises(fastjsonschema.JsonSchemaException):
        validate({**json.loads(made(workspace, "json")), "runs": [{}]})


def test_changed_and_missing_evidence_is_named(workspace: Workspace) -> None:
    workspace.run()
    assert "intact: has this hash now" in made(workspace, "md")
    path = workspace.folder / "artifacts" / "r1.json"
    path.write_text(json.dumps(result_json(seed=9)))  # a valid result, but not the judged one
    changed = made(workspace, "md")
    assert "was changed since it was judged" in changed and "Load test:" not in changed
    path.unlink()
    assert "r1.json is missing" in made(workspace, "md").replace("\\", "")


def test_an_overwritten_result_is_read_from_the_runs_copy(workspace: Workspace) -> None:
    run = workspace.run()
    verdict = run.verdict()
    assert verdict is not None
    archive(run.folder, verdict.evidence, workspace.folder)
    path = workspace.folder / "artifacts" / "r1.json"
    for damage in (lambda: path.write_text(json.dumps(result_json(seed=9))), path.unlink):
        damage()
        text = made(workspace, "md")
        assert "Load test:" in text and "the copy in the run's evidence/ has this hash" in text
        assert "was changed since it was judged" not in text and "is missing" not in text
        report = json.loads(made(workspace, "json"))
        fastjsonschema.compile(json.loads((bundled("docs/schemas") / "report.schema.json").read_text()))(report)
        assert report["runs"][0]["artifacts"][0]["state"] == "kept"
        assert (workspace.folder / report["runs"][0]["artifacts"][0]["copy"]).is_file()
        assert side(workspace.store, run.id, "A").result.ours == result_json()["llmval"]


def test_the_default_is_the_newest_run_of_each_step(workspace: Workspace) -> None:
    workspace.run()
    newest = workspace.run()
    checklist = load(workspace.folder / "docs" / "llm_validation_checklist.md")
    assert [run.id for run in runs_for(workspace.store, (), checklist)] == [newest.id]
    assert len(runs_for(workspace.store, ("abc001", "abc002", "abc001"), checklist)) == 2


def test_the_runs_of_a_workspace_are_listed_once_for_all_that_a_report_shows(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3,000 old runs made a report of 500 take 14 s."""
    shown = [workspace.run() for _ in range(3)]
    looks: list[Path] = []
    plain = RunStore.runs

    def runs(self: RunStore) -> list[Run]:
        looks.append(self.workspace)
        return plain(self)

    monkeypatch.setattr(RunStore, "runs", runs)
    facts = gather(workspace.store, shown, None)
    assert [run.id for run in facts.runs] == [run.id for run in shown] and len(looks) == 1


def test_an_unjudged_run_is_shown_as_such(workspace: Workspace) -> None:
    workspace.run(outcome=None)
    assert "not judged (finished)" in made(workspace, "md").replace("\\", "")


def test_only_a_report_is_overwritten(
    workspace: Workspace, options: Callable[..., argparse.Namespace], tmp_path: Path
) -> None:
    workspace.run()
    for name in ("r.html", "r.md", "r.json"):
        target = tmp_path / name
        for _ in range(2):
            assert report(options(output=str(target))) == 0
    target = tmp_path / "notes.md"
    target.write_text("# mine\n")
    with pytest.raises(Refused, match="not a report"):
        report(options(output=str(target)))
    assert target.read_text() == "# mine\n"
    with pytest.raises(Refused, match="do not agree"):
        report(options(output=str(tmp_path / "x.md"), format="html"))
    with pytest.raises(Refused, match="folder"):
        report(options(output=str(tmp_path / "none" / "x.html")))


def test_readonly_judges_nothing(
    workspace: Workspace, options: Callable[..., argparse.Namespace], tmp_path: Path
) -> None:
    run = workspace.run(outcome=None)
    report(options(output=str(tmp_path / "r.html"), readonly=True))
    assert run.verdict() is None


def test_a_long_recording_stays_small(workspace: Workspace) -> None:
    run = workspace.run()
    with run.telemetry.open("wb") as file:
        for second in range(2600):
            at = second * 10**9
            gpus = [GpuSample(index, power_w=400.0 + (second * 37 + index) % 100) for index in range(2)]
            file.write(Sample(WALL_NS + at, ZERO_NS + at, None, gpus).to_line())
    text = made(workspace, "html")
    assert len(text) < 150_000
    value = json.loads(made(workspace, "json"))["runs"][0]["telemetry"]["gpus"][0]["readings"]["power_w"]["whole_run"]
    assert (value["least"], value["greatest"], value["samples"]) == (400.0, 499.0, 2600)


def test_a_run_against_a_server_shows_what_the_server_counted(workspace: Workspace) -> None:
    run = workspace.run()
    workspace.events(run, (1.0, "phase", {"name": "measure"}), (4.0, "phase", {"name": "report"}))
    with run.telemetry.open("wb") as file:
        for second in range(6):
            at = ZERO_NS + second * 10**9
            engine = EngineSample(
                "http://h:1", at, "vLLM", running=float(second), waiting=3.0, preemptions=float(second),
                generation_tokens=100.0 * second, prefix_cache_queries=100.0 * second, prefix_cache_hits=40.0 * second,
                times={"queue": TimeTotal(0.5 * second, float(second))},
                processes=[ServerProcess(7, "EngineCore", 0.5 * second, 1)], cpu_s=0.5 * second,
            )  # fmt: skip
            file.write(Sample(WALL_NS + second * 10**9, at, engine=engine).to_line())
    engine_json = json.loads(made(workspace, "json"))["runs"][0]["telemetry"]["engine"]
    window = engine_json["window"]
    assert window["counts"]["preemptions"] == 3 and window["times"]["queue"] == {"seconds": 1.5, "count": 3}
    assert engine_json["readings"]["waiting"]["measured"]["greatest"] == 3
    text = made(workspace, "md")
    for words in (
        "vLLM over 3",
        "| queue, ms a request | 500 |",
        "CPU of EngineCore (7), cores | 0.5",
        "hits, % of prompt tokens | 40",
    ):
        assert words in text, words


def test_a_run_without_a_server_has_no_figures_of_one(workspace: Workspace) -> None:
    workspace.run()
    value = json.loads(made(workspace, "json"))["runs"][0]["telemetry"]["engine"]
    assert value == {"readings": {}, "window": None}
