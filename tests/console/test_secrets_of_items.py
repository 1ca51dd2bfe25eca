"""Secrets in the text of items: the commands get them, and no file that llmval writes has them."""

import hashlib
import json
import zipfile
from pathlib import Path

from llmval_tui.actions.review.settings import settings_path
from llmval_tui.checklist.ledger import entries
from llmval_tui.foundation.masked_text import MASK
from tests.console.conftest import Workspace
from tests.helpers.secret_kinds import JWT, MIXED

SECRETS = (
    "sk-abcdef1234567890abcdef", "hunter2-of-the-db", "pa55w0rdOfAda", f"Zz{MIXED}", f"hf_{MIXED}",
    "AKIAIOSFODNN7EXAMPLE", JWT, "sk-zzzzzz1234567890zzzzzz", "glpat-AbCdEfGhIjKlMnOpQrSt", "correct-horse-99",
    f"hf_ZZ{MIXED}", f"hf_NN{MIXED}", "token=sk-demanded1234567890ab",
)  # fmt: skip
LIST = f"""# Secrets

## 1. Of glpat-AbCdEfGhIjKlMnOpQrSt
- [ ] Run: `python seen.py --api-key sk-abcdef1234567890abcdef --output artifacts/key.json`
- [ ] Run: `DB_PASSWORD=hunter2-of-the-db python seen.py --output artifacts/variable.json`
- [ ] Run: `python seen.py --url https://ada:pa55w0rdOfAda@db.example.com/x --output artifacts/url.json`
- [ ] Run: `python seen.py "Authorization: Bearer Zz{MIXED}" --output artifacts/bearer.json`
- [ ] Run with token hf_{MIXED}: `python seen.py --output artifacts/words.json`
- [ ] Run: `python seen.py AKIAIOSFODNN7EXAMPLE --output artifacts/aws.json`
- [ ] Run: `python seen.py {JWT} --output artifacts/jwt.json`
- [ ] Run: `python seen.py --output artifacts/harmless.json`
- [ ] Run: `python seen.py --api-key sk-zzzzzz1234567890zzzzzz --output artifacts/key.json`
- [ ] Run: `python seen.py --output artifacts/demand.json` and expect output to contain "token=sk-demanded1234567890ab"
- [ ] Run:

  ```bash
  export HF_TOKEN=hf_ZZ{MIXED}
  python seen.py --output artifacts/script.json
  ```
- [ ] Group:
  - [ ] Run: `python seen.py --password correct-horse-99 --output artifacts/child.json`
- [ ] Ask the team whether glpat-AbCdEfGhIjKlMnOpQrSt works
"""
SEEN = """import hashlib, json, os, sys
words = [*sys.argv[1:-2], os.environ.get("DB_PASSWORD", ""), os.environ.get("HF_TOKEN", "")]
print("token=sk-demanded" + "1234567890ab" if "demand" in sys.argv[-1] else "seen")
json.dump([hashlib.sha256(word.encode()).hexdigest() for word in words], open(sys.argv[-1], "w"))
"""


def leaks(folder: Path) -> dict[str, list[str]]:
    """The files below a folder that hold a secret, by path."""
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    held = {path: sorted(secret for secret in SECRETS if secret.encode() in data) for path, data in files.items()}
    return {str(path.relative_to(folder)): secrets for path, secrets in held.items() if secrets}


def prepared(workspace: Workspace) -> None:
    """The list with answers to its questions, in the file beside it."""
    workspace.checklist.write_text(LIST)
    settings_path(workspace.checklist).unlink()
    (workspace.folder / "seen.py").write_text(SEEN)
    asked = json.loads(workspace.llmval("review", "--json").stdout)["questions"]
    words = [f"--answer={one['code']}={'run' if one['can_run'] else 'manual'}" for one in asked if not one["missing"]]
    workspace.llmval("review", *words)


def test_a_list_with_secrets_leaves_them_in_no_file_and_its_commands_get_them(workspace: Workspace) -> None:
    prepared(workspace)
    said = workspace.llmval("run", "--all", "--skip-unreviewed").stdout
    workspace.llmval("tick", "1.14", "--note", f"seen with hf_NN{MIXED}", check=0)
    for name in ("report.html", "report.md", "report.json", "verdicts.xml", "metrics.prom"):
        workspace.llmval("report", "-o", name, check=0)
    workspace.llmval("export", "--all", "-o", "runs.zip", check=0)
    workspace.llmval("verify", "runs.zip", check=0)
    with zipfile.ZipFile(workspace.folder / "runs.zip") as archive:
        archive.extractall(workspace.folder / "unpacked")
    log = "logs/main.stdout.log"  # of the item that demands a secret of its output: a log keeps what a program prints
    assert {name for name in leaks(workspace.folder) if not name.endswith(log)} == {f"docs/{workspace.checklist.name}"}
    assert sorted(path for path in leaks(workspace.folder) if path.endswith(log)) == [
        f"artifacts/runs/{workspace.store.get('-1.10-').id}/{log}"
    ]

    # Each command got its own, and the judge the text that the item demands.
    results = {path.stem: json.loads(path.read_text()) for path in (workspace.folder / "artifacts").glob("*.json")}
    hashes = {name: hashlib.sha256(secret.encode()).hexdigest() for name, secret in {
        "key": "sk-zzzzzz1234567890zzzzzz", "variable": "hunter2-of-the-db",
        "bearer": f"Authorization: Bearer Zz{MIXED}",
        "url": "https://ada:pa55w0rdOfAda@db.example.com/x", "jwt": JWT, "aws": "AKIAIOSFODNN7EXAMPLE",
        "script": f"hf_ZZ{MIXED}", "child": "correct-horse-99",
    }.items()}  # fmt: skip
    assert {name for name, value in hashes.items() if value not in results[name]} == set(), said
    demand = json.loads((workspace.store.get("-1.10-").folder / "verdict.json").read_text())
    assert demand["outcome"] == "pass", demand
    assert {f"contains token={MASK}"} & {gate["bound"] for gate in demand["gates"]}


def test_its_ticks_stand_and_the_answers_still_hold(workspace: Workspace) -> None:
    prepared(workspace)
    workspace.llmval("run", "1.2", "1.11", "1.13", check=0)
    steps = json.loads(workspace.llmval("status", "--json").stdout)["steps"]
    states = {one["number"]: one["state"] for one in steps if one["state"] != "open"}
    assert states.keys() == {"1.2", "1.11", "1.12", "1.13"}
    assert set(states.values()) == {"exit code"}
    workspace.llmval("verify", check=0)
    assert len(entries(workspace.folder / "docs" / "TODO.md")) == 4
    # Another secret is no other item for its tick, but nobody has confirmed that command.
    workspace.checklist.write_text(workspace.checklist.read_text().replace("hunter2-of-the-db", "swordfish-of-the-db"))
    steps = json.loads(workspace.llmval("status", "--json").stdout)["steps"]
    assert next(one["state"] for one in steps if one["number"] == "1.2") == "exit code"
    assert "answer again" in workspace.llmval("run", "1.2", check=2).stderr


def test_a_refusal_of_an_item_with_a_secret_is_shown_at_it(workspace: Workspace) -> None:
    item = "- [ ] Run: `no-such-program --api-key {}`\n"
    workspace.checklist.write_text("# L\n\n## 1. A\n" + "".join(map(item.format, SECRETS[:2])))
    workspace.llmval("run", "1.2", check=2)
    steps = json.loads(workspace.llmval("status", "--json").stdout)["steps"]
    assert [one["state"] for one in steps] == ["open", "refused"]
    assert leaks(workspace.folder).keys() == {f"docs/{workspace.checklist.name}"}


def test_the_value_of_a_placeholder_is_in_no_file_after_the_plan(workspace: Workspace) -> None:
    workspace.checklist.write_text("# L\n\n## 1. A\n- [ ] Run: `python seen.py --token <hf_token> --output x.json`\n")
    (workspace.folder / "seen.py").write_text(SEEN)
    workspace.llmval("run", "1.1", "--set", f"hf_token=hf_NN{MIXED}", check=0)
    assert leaks(workspace.folder) == {}
    (plan,) = (workspace.folder / "artifacts" / "plans").glob("*/plan.json")
    assert json.loads(plan.read_text())["options"]["values"] == {"hf_token": MASK}
    assert hashlib.sha256(f"hf_NN{MIXED}".encode()).hexdigest() in (workspace.folder / "x.json").read_text()
