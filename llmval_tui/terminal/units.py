"""Factors between what is measured and what is shown."""

GIB = 1024**3  # bytes; memory sizes are shown in GiB, as the GPU's own tools do
