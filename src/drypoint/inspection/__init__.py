"""What a disk image holds, as values and as a picture; nothing is changed, and nothing is proved (see verification)."""
