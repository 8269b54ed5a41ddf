"""How are heads and members read over HTTP?"""
