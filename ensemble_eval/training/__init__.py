"""Training the members: the recipe of section 6 on any class-folder data set."""
