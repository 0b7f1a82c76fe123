"""Partition tables, MBR and GPT: reading, writing, and the growth of a partition."""
