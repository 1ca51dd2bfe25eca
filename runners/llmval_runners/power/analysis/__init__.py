"""From the cells of sweeps, and other tools' results, to one summary.

JSON, Markdown and a plot. Standard library alone.
"""
