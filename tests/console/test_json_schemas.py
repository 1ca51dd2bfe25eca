"""What a command prints with `--json` is described by a schema in docs/schemas, and fits it."""

import json
from pathlib import Path

import fastjsonschema
import pytest

from llmval_tui.cli import main
from llmval_tui.console.commands.all_commands import COMMANDS
from tests.report.conftest import Workspace as Judged
from tests.report.conftest import result_json

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
# The command lines that need no GPU, no plan and no server; {ws} is a workspace with a list.
LINES = {
    "status": ("status --workspace {ws}", "steps"),
    "doctor": ("doctor --workspace {ws}", "doctor"),
    "run": ("run --all --dry-run --workspace {ws}", "plan_preview"),
    "review": ("review --workspace {ws}", "questions"),
    "tick": ("tick 1.2 --note done --workspace {ws}", "message"),
    "new": ("new", "ready_lists"),
    "new NAME": ("new burn_in_24h --workspace {ws}", "message"),
    "help": ("help", "help"),
    "help TOPIC": ("help criteria", "help"),
    "a refusal": ("run 9.9 --workspace {ws}", "message"),
    "a usage error": ("run --no-such-option", "message"),
    "runs": ("runs --workspace {ws}", "runs"),
    "cancel": ("cancel --workspace {ws}", "message"),
    "verify": ("verify --workspace {ws}", "verify_ticks"),
    "report": ("report -o {judged}/report.html --workspace {judged}", "message"),
    "compare": ("compare abc001 abc002 --workspace {judged}", "compare"),
    "history": ("history --workspace {judged}", "metrics"),
    "history METRIC": ("history ttft_sched_p99_ms --workspace {judged}", "history"),
    "export": ("export --all -o {judged}/x.zip --workspace {judged}", "message"),
    "export --dry-run": ("export --all --dry-run --workspace {judged}", "message"),
    "locate": ("locate themes", "message"),
}
BEFORE = {"verify": "tick 1.2 --note done --workspace {ws}"}
# Where the others are described, or why there is nothing to describe.
ELSEWHERE = {
    "open": "the dashboard",
    "demo": "plan_results",
    "attach": "plan_results",
    "fleet": "fleet",
    "accept": "message",
    "watch": "lines with t_utc, kind and text: docs/report.md",
    "completion": "a script for a shell",
}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    text = "# L\n\n- [ ] Kernel: `uname -r`\n- [ ] Ask the vendor.\n- [ ] Run `./own.sh`\n"
    (tmp_path / "docs" / "llm_validation_checklist.md").write_text(text)
    (tmp_path / "own.sh").write_text("#!/bin/sh\n")
    (tmp_path / "own.sh").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("name", LINES)
def test_the_output_fits_its_schema(
    name: str, workspace: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    line, schema = LINES[name]
    judged = tmp_path_factory.mktemp("judged")
    if "{judged}" in line:
        made = Judged(judged)
        for seed in (1, 2):
            made.run(result_json(seed=seed))
    if name in BEFORE:
        main(BEFORE[name].format(ws=workspace).split())
        capsys.readouterr()
    main([word.format(ws=workspace, judged=judged) for word in line.split()] + ["--json"])
    found = json.loads(capsys.readouterr().out)
    described = json.loads((SCHEMAS / f"{schema}.schema.json").read_text())
    fastjsonschema.compile(described)(found)
    assert set(found) <= set(described["properties"]), "a field that no schema describes"
    assert found["kind"].removeprefix("llmval_") == schema


def test_the_results_of_a_plan_fit_their_schema() -> None:
    # Printed by the tests of plans, too slow to repeat here: the fields are those of the code.
    from dataclasses import fields

    from llmval_tui.plans.records import StepResult

    described = json.loads((SCHEMAS / "plan_results.schema.json").read_text())["properties"]["results"]["items"]
    assert {field.name for field in fields(StepResult)} == set(described["properties"])


def test_every_command_is_described() -> None:
    named = {name.split()[0] for name in LINES if not name.startswith("a ")}
    assert named | set(ELSEWHERE) == set(COMMANDS) and not named & set(ELSEWHERE)
    readme = (SCHEMAS / "README.md").read_text()
    for schema in {schema for _, schema in LINES.values()}:
        assert f"{schema}.schema.json" in readme
