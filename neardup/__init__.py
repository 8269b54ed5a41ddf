"""What does a user of the service import? The client of the HTTP API, and the notifications that producers send."""
