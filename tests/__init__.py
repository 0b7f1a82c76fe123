"""The tests: ``unit`` needs nothing, ``engine`` holds drypoint against real programs."""
