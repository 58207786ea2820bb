"""The SQL, and nothing else."""
