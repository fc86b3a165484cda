"""Bedrock as a client sees it: the account, requests and replies on the wire, one call; what can go wrong."""
