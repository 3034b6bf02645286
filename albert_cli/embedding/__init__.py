"""Texts to vectors: the fast encoder and what feeds it."""
