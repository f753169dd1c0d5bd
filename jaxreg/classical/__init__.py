"""Registration without training: lung masks, prealignment, keypoints and refinement."""
