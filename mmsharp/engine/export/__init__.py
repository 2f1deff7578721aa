"""Models as ONNX: what is written of them, what exporters need changed while they write, and the check."""
