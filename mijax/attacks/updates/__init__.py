"""Online learning: the data of an update, from a model's answers before and after."""
