"""The commands of the documents do what the documents say: README, tutorial and how-to run here, in their order.

Each document has one workspace. It begins with what the document says its reader has (`READER_HAS`). A command that is
not run is in `NOT_RUN` or `PLANNED` with the reason; there is no third way. The runners' commands need GPUs: their
flags are read by the runner's own parser.
"""

import contextlib
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llmval_runners.benchmark import options as engine_benchmark
from llmval_runners.collective import options as collective_bandwidth
from llmval_runners.compile_study import options as torch_compile_repro
from llmval_runners.load_test import options as inference_server_load_test
from llmval_runners.long_context import options as long_context_validation
from llmval_runners.long_context.fit_check import options as fit_check
from llmval_runners.openai_client import options as openai_load_test
from llmval_runners.power import options as precision_power_sweep
from llmval_runners.power.analysis import cli as power_efficiency_analyzer
from torch.distributed.run import get_args_parser

from llmval_tui.runs.records import Artifact, Command, Outcome, StepRef
from llmval_tui.runs.store import Run
from tests.helpers.workspace import write_run, write_verdict
from tests.packaging.test_documentation import PAGES, ROOT
from tests.packaging.test_documentation import commands as commands_of_all_pages
from tests.report.conftest import result_json

MAKEFILE = (ROOT / "Makefile").read_text()
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "docs" / "tutorial.md", *(ROOT / "docs" / "how_to").glob("*.md")])

# Commands that cannot run in a test. Each pattern must match a documented command.
NOT_RUN = {
    r"\. \.venv/bin/activate$": "PATH has this checkout's llmval already",
    r"make demo$": "installs torch from the network; for the tutorial see `INSTEAD`",
    r"make bundle\b": "downloads the wheels of all interpreters",
    r"scp ": "another host",
    r"(\S*/)?pip |uv tool |python3 -m venv ": "installs from the network",
    r"(docker|srun|enroot|apptainer) ": "a container that is not here",
    r"llmval \S+\.md$|llmval --replay ": "the dashboard needs a terminal",
    r"\./llmval demo$": "the dashboard; the tutorial's demo runs without a terminal",
}
# What a target of make runs after the installation, by the document and the line.
INSTEAD = {("tutorial.md", "make demo"): re.findall(r"^demo:.*\n\t@\$\(BIN\)/(.+)$", MAKEFILE, re.MULTILINE)[0]}
# Commands of which only the plan is run: `--dry-run` is added, so items, options and programs must be right.
PLANNED = {
    r"llmval run --all --checklist node_acceptance\.md": "hours on GPUs",
    r"llmval run --all --runner-python ": "hours on GPUs",
    r"llmval run --section 1 --checklist engine\.md": "needs the reader's engine for five minutes",
    r"llmval run 1\.2 --yardstick ": "needs the reader's engine for five minutes",
}
# Exit codes other than 0, and what the output must say then.
CODES: dict[str, dict[int, str]] = {
    # What a busy machine makes of a load test, as the tutorial says.
    r"llmval demo ": {0: "1.2  pass", 1: "✗ kept up", 3: "the generator was late"},
    # Without GPUs and their tools, as here, the items that need them are refused.
    r"llmval run (?=.*--dry-run)(?=.*(node_acceptance\.md|--runner-python))": {0: "plan:", 2: "plan: refused"},
    # As own_list.md says.
    r"llmval run --all --preset smoke --checklist rack12\.md": {3: "the smoke preset has no short form"},
}
# It asks its reader. All other commands have no terminal.
ON_A_TERMINAL = "llmval review "
# Places outside the workspace that the documents name. `~` is the workspace's `home`.
PLACES = {
    "/var/lib/node_exporter/": "node_exporter/",
    "/opt/conda/bin/python": sys.executable,
}

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```|((?:^    [^\n]+\n)+)", re.MULTILINE | re.DOTALL)


def parts(page: Path) -> Iterator[tuple[str, str, str]]:
    """Language, text and the paragraph before it, of each block of the page, in order. Indented blocks have none."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        before = text[: found.start()].rstrip().rpartition("\n\n")[2]
        yield found[1] or "", found[2] or re.sub(r"^    ", "", found[3] or "", flags=re.MULTILINE), before


def lines(text: str) -> list[str]:
    joined = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in joined if line.strip() and not line.strip().startswith("#")]


def commands(page: Path) -> list[str]:
    return [line for language, text, _ in parts(page) if language in ("", "bash", "sh") for line in lines(text)]


def reason_for(line: str, table: dict[str, Any]) -> Any:
    """The value of the first pattern that the command, without its comment, begins with."""
    return next((value for pattern, value in table.items() if re.match(pattern, bare(line))), None)


def bare(line: str) -> str:
    return re.sub(r"\s{2,}#.*", "", line)


def _say_yes(**how: Any) -> tuple[int, str]:
    """Run a command on a terminal whose operator answers every question with y."""
    ours, theirs = pty.openpty()
    os.write(ours, b"y\n" * 9)
    with subprocess.Popen(**how, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        output = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while read := os.read(ours, 1 << 16):
                output += read
    os.close(ours)
    return process.returncode, output.decode(errors="replace")


class Reader:
    """Somebody who follows a document: a workspace, a home, this checkout's programs, no terminal, no network."""

    def __init__(self, folder: Path) -> None:
        self.folder = self.cwd = folder / "work"
        self.home, self.bin = folder / "home", folder / "bin"
        for one in (self.folder, self.home, self.bin):
            one.mkdir()
        for name in ("llmval", "python"):
            (self.bin / name).symlink_to(Path(sys.executable).parent / name)

    def has_program(self, name: str, text: str) -> None:
        program = self.bin / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    def run(self, line: str) -> tuple[int, str]:
        """Run one line as bash does, and remember where `cd` leads. Exit code and output."""
        for place, here in PLACES.items():
            line = line.replace(place, str(self.folder / here))
        kept = self.home / "cwd"
        dead = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        how: dict[str, Any] = {
            "args": ["bash", "-o", "pipefail", "-c", f"{line}\ncode=$?; pwd > {shlex.quote(str(kept))}; exit $code"],
            "cwd": self.cwd,
            "env": {
                "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.home), "LANG": "C.UTF-8",
                "TMPDIR": str(self.home), **dead,
            },
            "start_new_session": True,
        }  # fmt: skip
        if line.startswith(ON_A_TERMINAL):
            code, output = _say_yes(**how)
        else:
            done = subprocess.run(
                **how,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            code, output = done.returncode, done.stdout
        self.cwd = Path(kept.read_text().strip())
        return code, output

    def write(self, language: str, text: str, before: str) -> None:
        """Write a list or a setting under the name that the paragraph before it says."""
        names = re.findall(r"`([\w.]+\.(?:md|toml))`", before)
        suffix = {"markdown": ".md", "toml": ".toml"}.get(language)
        if names and Path(names[-1]).suffix == suffix:
            with (self.folder / names[-1]).open("a") as file:  # settings go beside the answers of a review
                file.write(text)


def _run_of(folder: Path, run_id: str, number: str, slower: float) -> Run:
    """A load test that passed, with its result as evidence."""
    path = folder / "artifacts" / f"{run_id}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result_json(slower=slower)))
    checklist = "docs/llm_validation_checklist.md"
    run = write_run(
        folder, run_id, StepRef(number, f"{number[0]}. Load", "Run: `python load.py`", 1, checklist),
        [Command("main", ["python", "load.py"], "python load.py")],
        status={"ended_utc": "2026-01-02T03:05:05Z"}, artifacts=[Artifact(f"artifacts/{run_id}.json", "load_test")],
        host={"name": "node1", "cpu_count": 8, "memory_bytes": 1 << 34, "gpu": {"gpus": [], "notes": []}},
        versions={"llmval": "0.1.0"},
    )  # fmt: skip
    write_verdict(run, Outcome.PASS, metrics={"ttft_sched_p99_ms": 120.0 * slower, "failed_requests": 0.0})
    return run


def has_runs(reader: Reader) -> None:
    (reader.folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "llm_validation_checklist.md", reader.folder / "docs")
    for count, (run_id, number) in enumerate(
        [("20261126T224645Z-1.2-2a2399", "1.2"), ("20261127T224645Z-1.2-7be01f", "1.2"),
         ("20261127T234645Z-4.1-abc001", "4.1")]
    ):  # fmt: skip
        _run_of(reader.folder, run_id, number, 1 - count / 10)  # no later one is worse


def has_key(reader: Reader) -> None:
    """The reader's ssh key, and a file of allowed signers with it."""
    key = reader.home / ".ssh" / "id_ed25519"
    key.parent.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    (reader.folder / "allowed_signers").write_text(f"vendor@example.org {public}\n")


def has_machine(reader: Reader) -> None:
    """A machine that meets node.md, whatever this one is."""
    reader.has_program("nproc", "echo 2")
    reader.has_program("df", "echo 'Use%'; echo ' 40%'")


def has_machine_and_key(reader: Reader) -> None:
    has_machine(reader)
    has_key(reader)


def has_archives(reader: Reader) -> None:
    """Runs, a key, the archives of two nodes, and the folder of a node exporter."""
    has_runs(reader)
    has_key(reader)
    (reader.folder / "node_exporter").mkdir()
    for run, name in (("2a2399", "node1.zip"), ("7be01f", "node2.zip")):
        assert reader.run(f"llmval export {run} -o {name}")[0] == 0


def has_rack(reader: Reader) -> None:
    """What the items of rack12.md use: GPUs with links, and a benchmark of the site."""
    reader.has_program("nvidia-smi", 'for one in $(seq 56); do echo "GPU NV18"; done')
    (reader.folder / "bench").mkdir()
    (reader.folder / "bench" / "copy.py").write_text(
        "import json, pathlib, sys\n"
        "pathlib.Path('artifacts').mkdir(exist_ok=True)\n"
        "pathlib.Path(sys.argv[2]).write_text(json.dumps({'bandwidth': 4e12}))\n"
    )


def has_criteria(reader: Reader) -> None:
    text = "# Rack 12\n\n- [ ] All-reduce over all GPUs\n\n  ```\n  all_reduce_perf -g 8\n  ```\n"
    (reader.folder / "rack12.md").write_text(text)
    reader.has_program("all_reduce_perf", "echo busbw 401")
    assert reader.run("llmval review rack12.md")[0] == 0


def has_engine(reader: Reader) -> None:
    has_runs(reader)
    reader.has_program("my-engine", "exit 1")


def has_bundle(reader: Reader) -> None:
    """The file that scp brought, the operator's list, and torch in `~/torch`."""
    (reader.folder / "llmval").symlink_to(reader.bin / "llmval")
    (reader.home / "torch").symlink_to(Path(sys.executable).parent.parent)
    (reader.folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "llm_validation_checklist.md", reader.folder / "docs")


READER_HAS: dict[str, Callable[[Reader], None]] = {
    "README.md": has_machine_and_key,
    "own_criteria.md": has_criteria,
    "own_engine.md": has_engine,
    "own_list.md": has_rack,
    "results_that_travel.md": has_archives,
    "tutorial.md": has_machine,
    "without_internet.md": has_bundle,
}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_the_commands_of_a_document_run_in_their_order(page: Path, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    READER_HAS.get(page.name, lambda _: None)(reader)
    wrong, count = [], Counter[str]()
    for language, text, before in parts(page):
        if language not in ("", "bash", "sh"):
            reader.write(language, text, before)
            continue
        for line in lines(text):
            line = INSTEAD.get((page.name, line), line)
            if reason_for(line, NOT_RUN) or (line.startswith("jq ") and not shutil.which("jq")):
                count["not run"] += 1
                continue
            planned = reason_for(line, PLANNED) is not None
            typed = f"{bare(line)} --dry-run" if planned else line
            code, output = reader.run(typed)
            count["planned" if planned else "run"] += 1
            codes = reason_for(typed, CODES) or {0: ""}
            if code not in codes or codes[code] not in output or "Traceback" in output:
                wrong.append(f"$ {typed}\nexit code {code}, not {' or '.join(map(str, codes))}\n{output[-1500:]}")
    print(page.name, dict(count))
    assert not wrong, "\n\n".join(wrong)
    assert count.total() == len(commands(page))


def test_no_command_of_these_documents_is_overlooked() -> None:
    """What is run here is what the other test finds, which reads every kind of block, in whatever order."""
    names = {str(page.relative_to(ROOT)): page for page in DOCUMENTS}
    others = Counter((page, " ".join(line.split())) for page, line in commands_of_all_pages() if page in names)
    ours = Counter((name, " ".join(line.split())) for name, page in names.items() for line in commands(page))
    assert ours == others


@pytest.mark.parametrize("pattern", [*NOT_RUN, *PLANNED])
def test_every_exception_is_for_a_documented_command(pattern: str) -> None:
    assert any(re.match(pattern, bare(line)) for page in DOCUMENTS for line in commands(page))


PARSERS: dict[str, Callable[[list[str]], Any]] = {
    "collective_bandwidth": collective_bandwidth.parse,
    "engine_benchmark": engine_benchmark.parse,
    "fit_check": fit_check.parse,
    "inference_server_load_test": inference_server_load_test.parse,
    "long_context_validation": long_context_validation.parse,
    "openai_load_test": openai_load_test.parse,
    "power_efficiency_analyzer": power_efficiency_analyzer.parser().parse_args,
    "precision_power_sweep": precision_power_sweep.parse,
    "torch_compile_repro": torch_compile_repro.parse,
}
_RUNNER = re.compile(r"\b((?:torchrun|python3?) [^\n`]*?(?:runners/)?(\w+)\.py(?: [^\n`]+)?)")


def runner_commands() -> list[tuple[str, str, str]]:
    """Page, runner and command of each line that starts a runner, in blocks and in the text."""
    found = set()
    for page in PAGES:
        for match in _RUNNER.finditer(page.read_text().replace("\\\n", " ")):
            if match[2] in PARSERS:
                found.add((str(page.relative_to(ROOT)), match[2], " ".join(match[1].split())))
    return sorted(found)


def with_values(command: str) -> str:
    """The command with a value in place of each thing that the reader fills in."""
    command = re.sub(r"\$\([^)]*\)", "today", command)
    command = re.sub(r"<[\w-]+>", "2", command.removesuffix("…"))
    return re.sub(r"(?<= )N(?= |$)", "2", command)


@pytest.mark.parametrize(("page", "runner", "command"), runner_commands())
def test_the_flags_of_a_documented_runner_exist(
    page: str, runner: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(with_values(command), comments=True)
    script = next(index for index, word in enumerate(words) if word.endswith(f"{runner}.py"))
    if words[0] == "torchrun":
        get_args_parser().parse_args(words[1 : script + 1])
    end = next((index for index, word in enumerate(words) if word in ("|", ">", "&&", ";")), len(words))
    PARSERS[runner](words[script + 1 : end])


def test_the_documents_start_every_runner() -> None:
    assert {runner for _, runner, _ in runner_commands()} == set(PARSERS)


def test_what_fits_is_said_without_a_gpu(tmp_path: Path) -> None:
    """The one documented runner's command that needs no GPU and little time runs as it stands."""
    page = ROOT / "docs" / "long_context_playbook.md"
    (line,) = [" ".join(line.split()) for line in commands(page) if "--predict-only" in line]
    (tmp_path / "runners").symlink_to(ROOT / "runners")
    done = subprocess.run(
        [sys.executable, *shlex.split(line)[1:]], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
