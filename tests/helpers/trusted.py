"""Lists whose programs start without a question, for tests about what happens after the start."""

from pathlib import Path

from llmval_tui.actions.review.settings import settings_path


def trust(checklist: Path, *programs: str) -> None:
    """Let the list start these programs without a question; Python if none is named."""
    names = ", ".join(f'"{name}"' for name in programs or ("python", "python3"))
    settings_path(checklist).write_text(f"never_ask = [{names}]\n")
