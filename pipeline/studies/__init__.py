"""What can be studied on the cache: learning curves, which layer suits which head, where to cut."""
