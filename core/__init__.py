"""What do all parts speak? Types, errors, dead letters, notifications, and the base of every server and client."""
