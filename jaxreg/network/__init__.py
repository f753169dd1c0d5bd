"""The networks: a fast convolution, the U-Net, and the cascade of them from coarse to fine."""
