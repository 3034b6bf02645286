"""Pretraining: corpus, vocabulary, masked batches, sentence-order pairs, teacher vectors, and the loop over them."""
