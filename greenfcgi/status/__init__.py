"""Figures: counted in each process, summed over all of them, shown to whoever asks."""
