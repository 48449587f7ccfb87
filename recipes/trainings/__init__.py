"""Five real trainings, each a file, run by both libraries on the same data, and measured before and after."""
