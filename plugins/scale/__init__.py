"""Methods that guide more strongly."""
