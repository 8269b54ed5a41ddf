"""What does each command of `neardup` do?"""
