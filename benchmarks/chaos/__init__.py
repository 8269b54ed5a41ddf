"""The long fault test: every part is killed, paused and loses power while images and abuse flow."""
