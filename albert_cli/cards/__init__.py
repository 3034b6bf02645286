"""Model cards: the README.md of a model that was converted, pretrained or fine-tuned, as the Hub reads it."""
