"""The command `export`: a trained method as one ONNX file, checked against the project."""
