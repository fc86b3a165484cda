"""Job -> its cases as they are asked, with their files and keys; and what earlier runs have of them."""
