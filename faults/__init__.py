"""Faults on purpose: what `make trust` does to llmval, and what must still be true afterwards."""
