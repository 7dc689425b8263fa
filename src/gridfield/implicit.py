"""stub"""
def attached(result, inputs): return
def traced(*a): return False
