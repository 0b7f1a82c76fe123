"""Stores of container engines. One package for each kind."""
