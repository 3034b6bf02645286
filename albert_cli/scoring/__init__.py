"""Inference with the pretraining heads."""
