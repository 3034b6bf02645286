"""The PyTorch ALBERT: encoder, heads and loading."""
