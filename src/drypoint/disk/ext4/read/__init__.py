"""A reader of ext2, ext3 and ext4 that shares no code with the writer."""
