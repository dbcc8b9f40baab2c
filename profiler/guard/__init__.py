"""Whether to trust a prediction: a detector of misclassified and adversarial inputs at run time."""
