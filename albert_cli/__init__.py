"""What one can do with an ALBERT: the `albert` command and the library under it."""

__version__ = "0.1.0"
