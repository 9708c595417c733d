"""Batched operations on images, each sample with its own magnitude: the operations of PIL and torchvision.

The definition is ``torchvision.transforms.v2.functional`` on uint8 tensors. Images are uint8 (B, C, H, W), with C 1
(grey) or 3 (RGB); magnitudes are float32 (B,). Nothing branches on a drawn number, so every operation can be traced,
stacked and captured.
"""
