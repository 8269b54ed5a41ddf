"""How does the job write them over gRPC, and how does each change reach Kafka?"""
