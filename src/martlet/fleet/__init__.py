"""The worker processes of one server: started, watched, replaced, drained."""
