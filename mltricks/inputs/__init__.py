"""Input kinds: descriptions of one sample, one file each. The rest of the code never compares kinds."""
