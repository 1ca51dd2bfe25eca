"""The tensors of a checkpoint, and what the gate says of a folder."""

from pathlib import Path

import pytest
from llmval_runners.engine.checkpoint.gate import read_checkpoint
from llmval_runners.process.errors import Refused

from tests.helpers.runners import checkpoints as made

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> made.State:
    """The tensors of the plain configuration."""
    return made.model_state(made.save(tmp_path_factory.mktemp("state"), made.config_of()))


def refusal(folder: Path) -> str:
    with pytest.raises(Refused) as raised:
        read_checkpoint(folder)
    text = str(raised.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 700
    return text
