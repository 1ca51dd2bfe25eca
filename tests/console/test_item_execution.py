"""Items with several commands, a script, an appended output, retries, a timeout and a group, as a user runs them."""

import json
import re

from llmval_tui.checklist.model import load
from tests.console.conftest import Workspace
from tests.helpers.trusted import trust

LIST = """# List

## 1. Part
- [ ] Check the files:
  - [ ] Run `python ok.py --output-json artifacts/a.json`.
  - [ ] Run `python ok.py --output-json artifacts/b.json` and `python ok.py --output-json artifacts/c.json`.
- [ ] Count the lines:

  ```bash
  for i in 1 2 3; do echo "line $i"; done | wc -l
  ```
- [ ] Run `python say.py new >> artifacts/all.txt`. <!-- llmval: expect="artifacts/all.txt contains new" -->
- [ ] Run `python say.py new >> artifacts/all.txt`. <!-- llmval: expect="artifacts/all.txt contains old" -->
- [ ] Run `python flaky.py`. <!-- llmval: retries=3 -->
- [ ] Run `python endless.py`. <!-- llmval: timeout=2s -->
- [ ] Run `python broken.py` and `python say.py unreached`.
"""
FLAKY = """import pathlib
tries = pathlib.Path("tries")
count = len(tries.read_text()) if tries.exists() else 0
tries.write_text("x" * (count + 1))
print("try", count)
raise SystemExit(0 if count == 2 else 7)
"""


def test_items_run_as_they_are_written(workspace: Workspace) -> None:
    folder = workspace.folder
    workspace.checklist.write_text(LIST)
    trust(workspace.checklist)
    (folder / "say.py").write_text("import sys; print(sys.argv[1])")
    (folder / "flaky.py").write_text(FLAKY)
    (folder / "endless.py").write_text("import time; time.sleep(600)")
    (folder / "artifacts/all.txt").write_text("old\n")
    question = workspace.llmval("review", check=2).stdout
    code = re.search(r"\(code ([0-9a-f]{16})\)", question)
    assert code is not None and 'for i in 1 2 3; do echo "line $i"; done | wc -l' in question
    workspace.llmval("review", "--answer", f"{code[1]}=run", check=0)
    done = json.loads(workspace.llmval("run", "--all", "--json", check=1).stdout)
    results = {item["number"]: item for item in done["results"]}
    outcomes = {number: item["outcome"] for number, item in results.items()}
    assert outcomes == {
        "1.2": "pass",
        "1.3": "pass",
        "1.4": "pass",
        "1.5": "pass",
        "1.6": "fail",  # the old line is not an output of this run
        "1.7": "pass",
        "1.8": "fail",
        "1.9": "fail",
    }
    assert "attempt 3, after 2 failed attempts (exit 7)" in results["1.7"]["message"]
    assert "timed out after 2 s" in results["1.8"]["message"]
    assert (folder / "artifacts/all.txt").read_text() == "old\nnew\nnew\n"
    ticked = [step.number for step in load(workspace.checklist).steps if step.checked]
    assert ticked == ["1.1", "1.2", "1.3", "1.4", "1.5", "1.7"]
    runs = {run.intent.step.number: run for run in workspace.store.runs()}
    script = runs["1.4"].intent.commands[0].script
    verdict = runs["1.4"].verdict()
    assert script is not None and verdict is not None
    assert script.sha256 in {item.sha256 for item in verdict.evidence}
    last = runs["1.9"].verdict()
    assert last is not None
    exits = [(gate.name, gate.measured, gate.line) for gate in last.gates if gate.name.startswith("exit")]
    assert exits == [("exit: main", "exit 1", 16), ("exit: main2", "not started", 16)]
