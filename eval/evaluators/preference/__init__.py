"""Scores by models that learnt what people prefer."""
