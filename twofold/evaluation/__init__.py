"""Questions with exact answers, put to a model and scored."""
