"""How are traces chosen, found in their topic, and shown?"""
