"""Regions of images through the seam of classification: boxes, their warps, and detections."""
