"""Regions of images, classified through the engine: boxes, their warps, and detections."""
