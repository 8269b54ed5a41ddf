"""How are the images that share terms with a query found, exactly and durably?"""
