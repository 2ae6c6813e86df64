"""Whole runs, from a dataset's name to numbers and pictures."""
