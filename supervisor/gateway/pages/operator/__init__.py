"""Pages for operators: ids, states, times, costs and reasons; texts are their owners'."""
