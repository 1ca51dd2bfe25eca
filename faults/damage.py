"""Records with flipped bits, cut ends and foreign contents: one of them must not stop the other commands."""

import json
import random
import shutil
import tempfile
from pathlib import Path

from faults.injection import Ended, run
from faults.report import Finding, Row
from faults.scenes import SCENES, llmval
from tests.helpers.workspace import run_id_of

RECORDS = ("verdict.json", "status.json", "run.json", "artifacts.json", "../ledger.jsonl")
COMMANDS = (
    ("status",),
    ("status", "--json"),
    ("verify",),
    ("run", "--all", "--dry-run"),
    ("report", "--format", "json"),
)
DOCUMENTED = range(4)  # exit codes


def _damage(seed: str, data: bytes, way: str) -> bytes:
    chance = random.Random(seed)
    if way == "bit" and data:
        at = chance.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
    if way == "cut":
        return data[: chance.randrange(len(data) + 1)]
    if way == "type":  # a valid document with another value
        value = json.loads(data if data.startswith(b"{\n") else data.split(b"\n")[0])
        key = chance.choice(sorted(value)) if isinstance(value, dict) and value else None
        if key is not None:
            value[key] = chance.choice([None, -1, "x", [], {}, 1e300, True])
        return json.dumps(value).encode() + b"\n"
    return chance.choice([b"", b"[]", b"null", b"\xff\xfe", b"{" * 1000, b"0" * 100_000])


def _try(ways: tuple[str, ...], cases: int, row: Row) -> None:
    scene = SCENES[0]
    whole = Path(tempfile.mkdtemp(prefix="llmval-faults-"))
    try:
        scene.prepare(whole)
        run(lambda: scene.act(whole))
        folder = whole / "ws/artifacts/runs" / run_id_of(1, "1.1")
        for number in range(cases):
            name = RECORDS[number % len(RECORDS)]
            way = ways[number // len(RECORDS) % len(ways)]
            if row.tried(case := f"{name}, {way}, seed {number}"):
                continue
            path = (folder / name).resolve()
            original = path.read_bytes()
            path.write_bytes(_damage(f"{number}", original, way))
            wrong = []
            for command in COMMANDS:
                ended = _command(whole, command)
                if ended.has_traceback or ended.code not in DOCUMENTED:
                    last = ended.output.strip().splitlines()[-1:]
                    wrong.append(f"{' '.join(command)}: exit {ended.code}: {last}")
            row.add(Finding(case, wrong))
            path.write_bytes(original)
            for other in folder.glob("verdict.*.json"):
                other.unlink()
    finally:
        shutil.rmtree(whole, ignore_errors=True)


def _command(folder: Path, command: tuple[str, ...]) -> Ended:
    return run(lambda: llmval(folder, *command))


def flipped_bits(row: Row, every: int = 1) -> None:
    """One bit of one record."""
    _try(("bit",), 500 // every, row)


def damaged_records(row: Row, every: int = 1) -> None:
    """A record that is cut, has a value of another type, or is something else."""
    _try(("cut", "type", "else"), 500 // every, row)
