"""Theme files: finding and reading them. The styles are made in `theme_styles.py`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import bundled
from llmval_tui.foundation.toml import parse_toml

# The names in theme files and in the code: `track` is faint decoration, such as the empty part of a bar; `idle` is the
# background of the cursor in a list without the focus; `fill` is an area below its top row, `gap` its hatched part.
ROLES = (
    "text", "muted", "title", "accent", "key", "code", "good", "warn", "bad", "busy", "chart", "chart2", "fill", "gap",
    "track",
)  # fmt: skip
# Roles that a user's older theme need not have: it then shows them as another one.
SAME_AS = {"fill": "chart", "gap": "muted"}
BACKGROUNDS = ("screen", "bar", "cursor", "idle", "match")
KINDS = ("dark", "light", "ansi")


@dataclass(frozen=True)
class ThemeFile:
    """One theme as it is written.

    `roles` are Rich styles without a background; `backgrounds` (table [grounds]) are colours or `reverse`.
    """

    name: str
    kind: str
    roles: Mapping[str, str]
    backgrounds: Mapping[str, str]


def read_theme(path: Path) -> ThemeFile:
    """Read one theme.

    Raises:
        Refused: not TOML, or a role or background missing.
    """
    try:
        data = parse_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise Refused(f"the theme {path} cannot be read ({error}): correct it or choose another by --theme.") from error
    kind = data.get("kind")
    if kind not in KINDS:
        raise Refused(f"the theme {path} has kind {kind!r}: write one of {', '.join(KINDS)}.")
    roles, backgrounds = data.get("roles", {}), data.get("grounds", {})
    if isinstance(roles, dict):
        roles = {new: roles[known] for new, known in SAME_AS.items() if known in roles} | roles
    for table, names, given in (("roles", ROLES, roles), ("grounds", BACKGROUNDS, backgrounds)):
        if not isinstance(given, dict):
            raise Refused(f"the theme {path} has no table [{table}]: add it.")
        if missing := [name for name in names if not isinstance(given.get(name), str)]:
            raise Refused(f"the theme {path} lacks {', '.join(missing)} in its table [{table}]: add what is missing.")
    return ThemeFile(path.stem, kind, {n: roles[n] for n in ROLES}, {n: backgrounds[n] for n in BACKGROUNDS})


def theme_files(environment: Mapping[str, str]) -> dict[str, Path]:
    """All themes by name: the bundled ones, then the user's own, which win."""
    config = environment.get("XDG_CONFIG_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".config")
    found: dict[str, Path] = {}
    for folder in (bundled("themes"), Path(config) / "llmval" / "themes"):
        if folder.is_dir():
            found.update({path.stem: path for path in sorted(folder.glob("*.toml"))})
    return found


def find_theme(name: str | None, environment: Mapping[str, str] = os.environ) -> Path:
    """The theme of that name; without a name `dark`, `mono` if NO_COLOR is set (https://no-color.org), or `ansi` in a
    terminal of sixteen colours, in which those of `dark` would be the nearest of them: grey bars and white charts.

    Raises:
        Refused: the theme does not exist.
    """
    usual = "mono" if environment.get("NO_COLOR") else "ansi" if has_sixteen_colours(environment) else "dark"
    wanted = name or usual
    files = theme_files(environment)
    if wanted not in files:
        raise Refused(f"there is no theme {wanted!r}: choose one of {', '.join(files)}.")
    return files[wanted]


def has_sixteen_colours(environment: Mapping[str, str]) -> bool:
    """Whether the terminal has no more colours, by the same rule by which they are then sent."""
    if environment.get("COLORTERM", "").strip().casefold() in ("truecolor", "24bit"):
        return False
    term = environment.get("TERM", "").strip().casefold()
    return term not in ("", "dumb", "unknown") and term.rpartition("-")[2] not in ("256color", "kitty")
