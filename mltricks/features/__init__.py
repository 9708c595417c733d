"""The features of a model, and what they are worth: nearest neighbours and a linear model on them."""
