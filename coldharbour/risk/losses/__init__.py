"""What an account, or all together, may lose in a day: how it stands, and the limits that were reached."""
