"""Files of the host: outputs that appear when complete, copies, scratch files, and undoing changes."""
