"""The file system in a partition: found, checked, repaired, grown and shrunk, also inside an inner disk image."""
