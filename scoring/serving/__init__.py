"""How is the model asked over gRPC, and how does it change while it serves?"""
