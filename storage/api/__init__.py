"""How are they read over HTTP?"""
