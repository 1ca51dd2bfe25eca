"""The precision and power sweep: what a decoder stack of a given shape does for a joule, by precision and batch."""
