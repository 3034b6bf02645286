"""Helpers of the format bson: Julia's values and BSON files."""
