"""The review page: look at segmented cases, correct slices, and let the corrections teach."""
