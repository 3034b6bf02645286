"""Pre-training: what its heads say of texts."""
