"""Pictures for people: sheets of pictures, grids of a plan, attention laid over pictures."""
