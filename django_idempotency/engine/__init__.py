"""Claim, run, keep or release; knows no HTTP."""
