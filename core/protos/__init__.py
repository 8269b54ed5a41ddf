"""How does a record of the order look in the topic `joined`?"""
