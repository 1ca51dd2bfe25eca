"""The precision and power sweep: tokens per joule of a decoder stack, by shape, precision and batch size."""
