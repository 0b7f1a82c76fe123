"""Files of the host: results that appear when they are whole, copies, scratch files, and how changes are taken back."""
