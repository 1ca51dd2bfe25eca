"""What the hardware does: sources of samples, their record and its replay."""
