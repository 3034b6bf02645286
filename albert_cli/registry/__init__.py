"""Which model is meant: a path, a published name, the Hub, or the built-in one."""
