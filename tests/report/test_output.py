"""A report is for others: it holds no secret, and stays whole."""

from pathlib import Path

from llmval_tui.report.output import deliver
from llmval_tui.report.pages import css

SECRET = "Zz9Secret1"
TEXT = f"<td>Run the server: `vllm serve m --api-key {SECRET} --port 1`</td><td>bob,yes</td>\n"


def test_a_report_holds_no_secret(tmp_path: Path) -> None:
    written = deliver(TEXT, str(tmp_path / "report.html"))
    assert written is not None
    assert written.read_text() == TEXT.replace(SECRET, "*" * len(SECRET))


def test_the_style_of_a_page_stays_as_its_security_policy_states_it(tmp_path: Path) -> None:
    styles = "\n".join(str(value) for name, value in vars(css).items() if isinstance(value, str) and name[0] != "_")
    assert "--pass" in styles
    written = deliver(styles, str(tmp_path / "report.md"))
    assert written is not None and written.read_text() == styles
