"""The clients run in environments of their own (`make compat`); here only what needs none of them is collected."""

collect_ignore_glob = ["client_*.py"]
