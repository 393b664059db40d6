"""Multi-crop ensemble evaluation after *Going Deeper with Convolutions* (Szegedy et al., CVPR 2015)."""

__version__ = "0.1.0"
