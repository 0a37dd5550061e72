"""Training sets and the training loop of the motion models."""
