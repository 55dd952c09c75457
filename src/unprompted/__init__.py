"""Few-shot, prompt-free segmentation of medical images, volumes and videos on SAM2."""
