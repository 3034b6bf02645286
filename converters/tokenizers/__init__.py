"""Tokenizer files: what they hold, their settings, and how they are written."""
