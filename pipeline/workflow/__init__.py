"""An experiment: its config, the graph of its stages, what makes work count as done."""
