"""Shared by all rooms: errors, atomic files, locks, JSON decoding, clean text, process identity."""
