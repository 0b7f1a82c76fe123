"""The ext4 file system: written through libext2fs, read by an independent reader, resized by resize2fs."""
