"""Work in threads, one way for each need, and one rule: ``close()`` ends within a second, whatever the other side does."""
