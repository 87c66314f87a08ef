"""A billing run, part by part: who pays for what, what is due, composed, stored; drafts."""
