"""How do a billion images of a manifest become a store, before the first record of the order?"""
