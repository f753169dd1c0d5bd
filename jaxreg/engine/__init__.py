"""Registration by optimisation: prealignment, Gauss-Newton, keypoints."""
