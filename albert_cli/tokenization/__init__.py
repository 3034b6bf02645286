"""Text to pieces to ids, and what `albert tokenize` shows."""
