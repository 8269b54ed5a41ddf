"""How are images decided again: chosen, sent, waited for, tried without a write, and compared?"""
