"""Growing and shrinking ext file systems by resize2fs, and the arithmetic of their size."""
