"""The command `export`: a trained method as an ONNX model in a small folder, checked against the project."""
