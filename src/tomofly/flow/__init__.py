"""The stream engine: graph, planner, conductor, executor, transfer."""
