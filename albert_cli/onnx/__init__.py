"""A model as an ONNX graph: which head goes in, the graph itself, its check, and its weights in int8."""
