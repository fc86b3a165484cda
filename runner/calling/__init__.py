"""Calls at the pace that the account grants: lanes with their quotas, and what is tried again."""
