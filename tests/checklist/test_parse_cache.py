"""The parse cache gives exactly what the scanner would find, or it is not used."""

import sys
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmval_tui.checklist import markdown, parse_cache
from llmval_tui.checklist.model import load, parse
from llmval_tui.checklist.parse_cache import SLOTS, ParseCache

NAME = Path("list.md")
TRICKY = """\ufeff# Title
- [x] Done `a b` <!-- llmval: deviation: 4 GPUs where the item says 8 -->
  <!-- llmval: action=command label="two words" -->
  - [ ] “nested” ☃ ``c ` d``

    Second `paragraph`

    ```bash
    make test
    ```
## 2. Two
- [ ] again
- [ ] again
"""


class Scanner:
    """Counts how often the Markdown had to be scanned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scans = 0
        scan = markdown.scan

        def counting(data: bytes, path: Path):
            self.scans += 1
            return scan(data, path)

        monkeypatch.setattr(markdown, "scan", counting)


def start(path: Path, cache: Path):
    """One start: the list is read, then the cache is written."""
    entries = ParseCache(path, {"XDG_CACHE_HOME": str(cache)})
    found = load(path, entries.scan)
    entries.save()
    return found


@pytest.fixture
def tricky(tmp_path: Path) -> Path:
    path = tmp_path / "list.md"
    path.write_text(TRICKY, encoding="utf-8")
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_the_second_start_reads_the_same_list_without_the_scanner(tricky: Path, cache: Path, monkeypatch) -> None:
    scanner = Scanner(monkeypatch)
    assert start(tricky, cache) == start(tricky, cache) == load(tricky, markdown.scan)
    assert scanner.scans == 2  # the first start's, and the one that it is compared with


@given(st.lists(st.sampled_from([*TRICKY.splitlines(), "", "text", "> - [ ] quoted", "```", "- [ ] é `x`\r"])))
def test_any_list_comes_back_as_it_was_scanned(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    data = "\n".join(lines).encode()
    first, second = (ParseCache(NAME, {"XDG_CACHE_HOME": str(tmp_path_factory.getbasetemp())}) for _ in range(2))
    found = first.scan(data, NAME)
    first.save()
    assert found == second.scan(data, NAME) == markdown.scan(data, NAME)
    assert second._new is None, "it was scanned again"


@pytest.mark.parametrize("edit", [("[ ] again", "[x] again"), ("Two", "Twe"), ("\ufeff", "")])
def test_a_byte_that_is_another_is_scanned_again(tricky: Path, cache: Path, monkeypatch, edit) -> None:
    start(tricky, cache)
    scanner = Scanner(monkeypatch)
    tricky.write_text(TRICKY.replace(*edit), encoding="utf-8")
    assert start(tricky, cache) == parse(tricky.read_bytes(), tricky)
    assert scanner.scans == 2


def test_another_parser_scans_again(tricky: Path, cache: Path, monkeypatch) -> None:
    start(tricky, cache)
    scanner = Scanner(monkeypatch)
    monkeypatch.setattr(parse_cache, "_parser", lambda: [[1, 2, 3]])
    start(tricky, cache)
    assert scanner.scans == 1


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"parser": 1', None])
def test_a_useless_file_counts_as_none(tricky: Path, cache: Path, damage: bytes | None) -> None:
    expected = start(tricky, cache)
    (file,) = (cache / "llmval").iterdir()
    if damage is None:
        damage = orjson.dumps({**orjson.loads(file.read_bytes()), "entries": [["Item", {"text": "no more than this"}]]})
    file.write_bytes(damage)
    assert start(tricky, cache) == expected


def test_an_unwritable_folder_keeps_no_cache(tricky: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert start(tricky, tmp_path / "cache") == load(tricky)


def test_many_lists_do_not_fill_the_folder(tmp_path: Path, cache: Path) -> None:
    for number in range(3 * SLOTS):
        path = tmp_path / f"{number}.md"
        path.write_text(f"- [ ] step {number}\n")
        assert start(path, cache).steps[0].text == f"step {number}"
    assert len(list((cache / "llmval").iterdir())) <= SLOTS


def test_the_parser_is_named_without_importing_it() -> None:
    import subprocess

    code = """import sys
from llmval_tui.checklist import parse_cache
parse_cache._parser()
sys.exit('markdown_it' in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
