"""Benchmarks: run them as modules from the checkout, ``python -m benchmarks.contest``."""
