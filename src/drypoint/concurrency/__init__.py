"""Threads: one module for each need, and one rule: ``close()`` ends within a second, whatever the other side does.

``stage``: a producer a bounded distance ahead of its consumer, and ``pulled``, a producer as an iterator of chunks. ``pool``:
jobs in threads, and an ordered map. ``background``: work while a block runs. ``tasks``: cancelling them all.
"""
