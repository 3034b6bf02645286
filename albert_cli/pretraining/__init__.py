"""Pretraining: corpus, vocabulary, masked batches, sentence-order pairs, a teacher, the loop; and what the heads say."""
