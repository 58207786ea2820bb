"""Break everything at random, then check the history: ``python -m tests.faults``."""
