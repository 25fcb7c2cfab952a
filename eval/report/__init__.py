"""From scores to tables, intervals, plots and the report page."""
