"""What the command says about itself: help, version, explanations of options and keys, tab completion."""
