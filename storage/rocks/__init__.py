"""How does RocksDB keep them?"""
