"""A run, step by step: its cases are asked and judged, rows are kept, and what they come to is summed up."""
