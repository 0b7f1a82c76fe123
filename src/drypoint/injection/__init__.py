"""Files into the volumes of a disk image: members of an .etch archive, and small files next to the store."""
