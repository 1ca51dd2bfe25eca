"""Short labels for items, with the differing arguments of similar ones."""

import pytest

from llmval_tui.tui.drawing.labels import disambiguated_labels, short_label, strip_markdown
from tests.helpers.tui_builder import Workspace
from tests.helpers.tui_pilot import Make, ready, text_of

RUN = "Run: `python runners/long_context_validation.py --sequence-lengths {} --gpus 8 --output-json a/{}.json`"


def test_similar_items_get_the_arguments_that_differ() -> None:
    items = (
        RUN.format("32768 65536", "b"),
        "Look at `x/y.md`.",
        RUN.format("8192", "b"),
        RUN.format("8192", "c"),
    )
    name = "Run: long_context_validation.py"
    assert disambiguated_labels(items) == (
        (name, "32768 65536 b.json"),
        ("Look at y.md.", ""),
        (name, "8192 b.json"),
        (name, "8192 c.json"),
    )
    assert disambiguated_labels(("`a.py --x 1`", "`a.py`")) == (("a.py", "--x 1"), ("a.py", ""))
    assert disambiguated_labels(items[:1] * 2) == ((name, ""),) * 2


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ('`python -c "print(vllm.__version__)"` prints it', 'python -c "print(vllm.__version__)" prints it'),
        ("Look at `__init__.py` and __all__ of it", "Look at __init__.py and all of it"),
        ("**Run** *now* or ~~never~~: max_model_len * 2 * 3", "Run now or never: max_model_len * 2 * 3"),
        ("See [the page](https://a.b/c_(d)) and ![a chart](x.png)", "See the page and a chart"),
        ("See [`x.py`](docs/x.py), [one][ref] and <https://a.b>", "See x.py, one and https://a.b"),
        ("``a ` b`` and `` `c` ``", "a ` b and `c`"),
        ("**`bold code`** and \\*stars\\*", "bold code and *stars*"),
        ("cut in `torchrun --nproc", "cut in `torchrun --nproc"),
        ("cut in **bold, and [a link](https://a", "cut in **bold, and [a link](https://a"),
        ("text <!-- llmval: action=x --> end", "text end"),
    ],
)
def test_markup_is_read_and_never_garbles_the_text(markdown: str, text: str) -> None:
    assert strip_markdown(markdown) == text


def test_only_paths_are_cut_to_their_last_part() -> None:
    assert short_label("at least `10 tokens/s`, `GB/s` or `application/json`; see `docs/a/b.md`") == (
        "at least 10 tokens/s, GB/s or application/json; see b.md"
    )


async def test_the_list_shows_what_differs_at_every_width(workspace: Workspace, dashboard: Make) -> None:
    items = "\n".join(f"- [ ] {RUN.format(length, 'b')}" for length in (8192, 65536))
    workspace.checklist.write_text(f"# Long\n\n## 1. Context\n{items}\n")
    async with dashboard().run_test(size=(200, 20)) as pilot:
        app = await ready(pilot)
        for size in ((200, 20), (80, 20), (40, 20)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            shown = [line for line in text_of(app.main.steps).split("\n") if " 1." in line and "○" in line]
            assert len(shown) == 2 and shown[0][8:] != shown[1][8:] and "8192" in shown[0] and "65536" in shown[1]
