"""Compiled only: nothing of it is visible to Python."""
