"""A page on which a trained model can be tried."""
