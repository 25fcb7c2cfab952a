"""`adhere eval` on the command line: what each command takes and says."""
