"""What makes a folder a workspace of a kind."""

from pathlib import Path

DEMO_MARKER = ".llmval-demo"  # a workspace with this file is a scratch one, in which `smoke` may tick


def is_demo(workspace: Path) -> bool:
    """Whether the workspace is the demo's."""
    return (workspace / DEMO_MARKER).is_file()
