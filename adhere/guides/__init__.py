"""What a method sees and says: parameters, runs, attention maps and the moments of a run."""
