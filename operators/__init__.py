"""How does one Flink function call one piece of logic?"""
