"""The jobs, a module for each, and the request for a preload."""
