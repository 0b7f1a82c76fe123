"""Partition tables, MBR and GPT: read, written, and changed so that a partition grows."""
