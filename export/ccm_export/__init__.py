"""Turn a training run into a bundle: three ONNX graphs and a manifest."""
