"""Other people's ways to the same masks, for comparison only: no program of ours segments with them."""
