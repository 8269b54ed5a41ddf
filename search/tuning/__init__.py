"""Which groups and bits of terms, depth and k reach a wanted recall at the least cost?"""
