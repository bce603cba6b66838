"""Learning: views, cached activations, the head, the epochs, evaluation, resuming."""
