"""The WordNet ids of ImageNet's 1,000 classes in the ILSVRC challenges since 2012."""

from pathlib import Path

# In the order of the class indices, which is their sorted order.
WNIDS = tuple(Path(__file__).with_name("imagenet_wnids.txt").read_text("ascii").split())
