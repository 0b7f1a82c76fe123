"""FAT file systems, through mtools."""
