"""SQL by noun: plain functions of a connection, run in one hop by Database.read and Database.write."""
