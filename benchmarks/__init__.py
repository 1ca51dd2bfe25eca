"""Benchmarks of what the operator feels: `make bench`. They measure and print; they are not tests."""
