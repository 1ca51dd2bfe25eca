from pathlib import Path

import pytest

from llmval_tui.actions.review.settings import parse_settings
from llmval_tui.config import parse_config
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.toml import parse_toml
from llmval_tui.tui.drawing.theme_files import read_theme

HOSTILE = ["a = " + "[" * 5000, "a = " + "9" * 5000, "a = 1\na = 2", "\x00"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_not_toml_or_too_deep_is_one_sentence(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_toml(text)
    path = tmp_path / "x.toml"
    path.write_text(text)
    for read in (
        lambda: parse_settings(text, path, tmp_path),
        lambda: parse_config(text, path),
        lambda: read_theme(path),
    ):
        with pytest.raises(Refused) as refusal:
            read()
        assert "\n" not in str(refusal.value) and str(path) in str(refusal.value)


def test_a_theme_whose_roles_are_not_a_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('kind = "dark"\nroles = 1\n')
    with pytest.raises(Refused, match="no table"):
        read_theme(path)
