"""What a trained model is used for: answers, and what is learned from them."""
