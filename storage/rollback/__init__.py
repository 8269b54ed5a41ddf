"""Which images go back to the heads of an earlier moment, and where does each of them stand then?"""
