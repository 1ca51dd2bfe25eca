"""Public models: served as transformers computes them, or refused by name. None is silently wrong."""

from pathlib import Path

import pytest
from llmval_runners.engine.checkpoint.gate import read_checkpoint
from llmval_runners.process.errors import Refused

from tests.helpers.runners import checkpoints as made
from tests.helpers.runners.published_models import REFUSED, SERVED, shrunk

pytest.importorskip("transformers")


@pytest.mark.parametrize("model", SERVED)
def test_a_served_model_gives_the_logits_of_transformers(model: str, tmp_path: Path) -> None:
    reference = made.save(tmp_path, shrunk(SERVED[model]))
    wanted = made.expected(reference)
    for ranks in (1, 2):
        made.assert_equal(made.logits_of(tmp_path, ranks), wanted)


@pytest.mark.parametrize("model", REFUSED)
def test_an_unsupported_model_is_refused_by_name(model: str, tmp_path: Path) -> None:
    config, words = REFUSED[model]
    with pytest.raises(Refused, match="serve it with vLLM or SGLang") as refused:
        read_checkpoint(made.write_config(tmp_path, config))
    assert words in str(refused.value)


def test_the_table_in_the_docs_is_complete() -> None:
    page = (Path(__file__).parents[4] / "docs" / "checkpoints.md").read_text()
    assert [model for model in (*SERVED, *REFUSED) if f"| {model} |" not in page] == []
