"""Stand-ins that more than one test file uses."""
