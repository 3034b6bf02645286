"""Pretraining: corpus, vocabulary, masked sentence pairs, a teacher, the loop; and what the heads say of texts."""
