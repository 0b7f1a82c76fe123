"""The ext4 file system: written through libext2fs, read by an independent reader, resized by resize2fs."""

LATEST_NOW = (1 << 32) - 1
"""The last second since the epoch that can stand for the present when a file system is written."""
