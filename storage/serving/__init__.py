"""How does the job read and write heads and members over gRPC, and how does each change reach Kafka?"""
