"""All that is particular to balena: its target state, and where balenaOS keeps things on a disk image."""
