"""Pictures of a pair: orthogonal views, panels, thumbnails."""
