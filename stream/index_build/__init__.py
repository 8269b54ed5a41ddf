"""How is an index built from storage or from the order, beside the one that serves?"""
