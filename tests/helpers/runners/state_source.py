"""Weights of a model that are in memory already."""

import torch
from llmval_runners.engine.weights import Source


def from_state_dict(state: dict[str, torch.Tensor]) -> Source:
    """The tensors of a state, each of which must have the size that the shape asks for."""

    def source(name: str, size: tuple[int, ...]) -> torch.Tensor:
        tensor = state[name]
        assert tuple(tensor.shape) == size, f"{name} is {list(tensor.shape)} in the state and {list(size)} in the shape"
        return tensor

    return source
