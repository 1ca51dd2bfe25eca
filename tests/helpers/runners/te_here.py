"""Skips without Transformer Engine. It is loaded as the runners load it: a bare import could mix two cuDNN versions."""

import pytest
from llmval_runners.engine import fp8
from llmval_runners.process.errors import Refused


def skip_without_transformer_engine() -> None:
    try:
        fp8.load_transformer_engine()
    except Refused as refusal:
        pytest.skip(str(refusal))
