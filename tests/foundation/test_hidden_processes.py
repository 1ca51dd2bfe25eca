"""A /proc that hides the processes of other users (mount option hidepid) is one in which they do not run."""

import os
from pathlib import Path

import pytest

from llmval_tui.foundation.process import Identity, process_table, processes_with, state_of


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError])  # hidepid=noaccess, hidepid=invisible
def test_the_processes_of_others_may_be_hidden(error: type[OSError], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.read_text

    def read_text(self: Path, *arguments: object, **options: object) -> str:
        if self == Path("/proc/1/stat"):
            raise error(1, "hidden", str(self))
        return plain(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", read_text)
    assert 1 not in process_table() and os.getpid() in process_table()
    assert Identity.of(1) is None and state_of(1) is None
    assert processes_with("LLMVAL_NOBODY_HAS_THIS", "1") == []
