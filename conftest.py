"""What every test run loads."""

pytest_plugins = ["notebooks.plugin"]
