"""Input kinds: what one sample is. One file each; nobody else compares kinds."""
