"""The process: its exit codes, its signals, and what it needs."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fastjsonschema

from tests.runners.openai_client.conftest import Start

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "runners" / "openai_load_test.py"


async def begin(*flags: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, SCRIPT, *flags, env=os.environ | environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_it_needs_no_torch_and_says_what_else_it_needs() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'runners')!r})\n"
        "import llmval_runners.openai_client.session\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "import importlib.util; importlib.util.find_spec = lambda name: name == 'pip' or None\n"
        "from llmval_runners.openai_client.main import main\n"
        "main(['--url', 'http://x'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "refused: httptools is not installed for" in done.stderr and "-m pip install httptools uvloop" in done.stderr


async def test_a_signal_saves_what_was_measured(start: Start, tmp_path: Path) -> None:
    mock, url = await start(gap_s=0.01)
    out, events = tmp_path / "x.json", tmp_path / "events"
    flags = ["--url", url, "--duration", "600", "--target-qps", "20", "--output-len", "4", "--prompt-len", "20"]
    process = await begin(*flags, "--output-json", str(out), LLMVAL_EVENTS=str(events))
    while sum(one.how == "done" for one in mock.served) < 20 or b'"metrics"' not in events.read_bytes():
        assert process.returncode is None
        await asyncio.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert process.returncode == 128 + signal.SIGINT, errors
    record = json.loads((tmp_path / "x.partial.json").read_text())
    fastjsonschema.compile(json.loads((ROOT / "docs/schemas/load_test.schema.json").read_text()))(record)
    assert record["llmval"]["partial"] and record["llmval"]["verdict"]["word"] == "ended early"
    assert record["completed"] >= 1 and not out.exists()
    kinds = [json.loads(line)["kind"] for line in events.read_text().splitlines()]
    assert {"phase", "progress", "metrics", "heartbeat", "result"} <= set(kinds)


async def test_a_refusal_is_one_sentence_and_exit_code_2(start: Start) -> None:
    _, url = await start(key="sk-right")
    process = await begin("--url", url, OPENAI_API_KEY="sk-wrong-0123456789abcdef")
    output, errors = await process.communicate()
    assert process.returncode == 2 and output == b""
    last = errors.decode().splitlines()[-1]
    assert last.startswith("refused: the server refuses the key (HTTP 401") and b"sk-wrong" not in errors
