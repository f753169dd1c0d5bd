"""The generated thorax, whose ground truth is known."""
