"""Writing into ext file systems through libext2fs."""
