"""Runs compared with each other, picture by picture, from the predictions that they have left."""
