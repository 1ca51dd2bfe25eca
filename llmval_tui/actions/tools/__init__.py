"""Readers of the results that other people's tools write: vLLM's benchmark, aiperf, nccl-tests, DCGM and more."""
