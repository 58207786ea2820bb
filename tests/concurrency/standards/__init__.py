"""Suites that others publish, run as ours.

What they ask is retold here as tables, in our words and with their names, so that each
result can be looked up; nothing of theirs is run.
"""
