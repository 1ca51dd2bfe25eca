"""Where the bundled runners, themes, documents and schemas lie: in the package, or beside it in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def bundled(name: str) -> Path:
    """The folder `runners`, `themes`, `docs` or `docs/schemas`; works from a wheel, an editable install and a checkout.

    Raises:
        FileNotFoundError: the installation lacks it.
    """
    for root in (_PACKAGE, _PACKAGE.parent):
        if (root / name).is_dir():
            return root / name
    raise FileNotFoundError(f"this installation of llmval lacks its {name} folder: reinstall it")
