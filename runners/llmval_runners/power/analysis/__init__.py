"""Summarises the cells of sweeps and the results of other tools: JSON, Markdown and a plot. Standard library only."""
