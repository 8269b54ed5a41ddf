"""Which groups and bits of terms reach a wanted recall at the least cost?"""
