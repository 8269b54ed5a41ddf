"""How is the service wired, configured, run and inspected?"""
