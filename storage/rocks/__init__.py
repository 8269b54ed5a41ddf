"""How does RocksDB keep heads and members?"""
