"""How is the term index asked over gRPC, and who may ask how much?"""
