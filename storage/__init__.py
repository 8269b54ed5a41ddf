"""Where do heads and members live, and how are they read and changed?"""
