"""How much space a job needs: sizes of layers, an index of those seen before, and the growth that follows."""
