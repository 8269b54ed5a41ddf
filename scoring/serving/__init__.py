"""How is the model called over gRPC, and how is it replaced while it serves?"""
