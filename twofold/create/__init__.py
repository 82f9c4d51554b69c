"""The pipeline that joins all floors: text in, two files out, resumed where it stopped."""
