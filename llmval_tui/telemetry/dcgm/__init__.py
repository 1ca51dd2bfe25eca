"""Telemetry of nodes whose GPUs are watched by NVIDIA's dcgm-exporter."""
