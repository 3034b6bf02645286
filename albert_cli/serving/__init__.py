"""A model behind HTTP: vectors as OpenAI's API has them, masked words, classes."""
