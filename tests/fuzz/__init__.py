"""Inputs that nobody has thought of, for whatever reads what strangers send."""
