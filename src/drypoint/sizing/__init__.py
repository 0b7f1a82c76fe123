"""The space that a job needs: sizes of layers, an index of layers written before, and the resulting growth."""
