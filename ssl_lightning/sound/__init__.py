"""Sound files of any length and rate: read where they are needed, resampled, cut into views, and turned into spectrograms."""
