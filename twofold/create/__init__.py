"""The pipeline that joins all floors: from text to two files and a report, resumable anywhere."""
