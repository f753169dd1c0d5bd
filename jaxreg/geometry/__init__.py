"""Where voxels lie in the world: grids, volumes, resampling, the lung grid."""
