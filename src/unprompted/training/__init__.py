"""Generated anatomy, losses and training loops."""
