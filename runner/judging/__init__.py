"""What a model must judge about a reply: what it is asked, and the verdicts that its answers come to."""
