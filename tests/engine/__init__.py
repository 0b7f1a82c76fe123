"""Tests with a real Docker engine, registry and kernel."""
