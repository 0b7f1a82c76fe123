"""Injecting files into the volumes of a disk image: the members of an .etch archive."""
