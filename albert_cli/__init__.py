"""What one can do with an ALBERT or a relative of it: the `albert` command and the library under it."""

__version__ = "0.1.0"
