"""Helpers of the TensorFlow formats: files, graphs and the module that is saved."""
