"""llmval: proves from a terminal that a multi-GPU node can serve LLMs."""

__version__ = "0.1.0"
