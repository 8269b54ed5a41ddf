"""How does an embedding become terms and a score code?"""
