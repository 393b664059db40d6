"""Which pixels: the schemes of crops as integers, and the pixels that they name."""
