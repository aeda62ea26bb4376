"""Captures: frames before and after a request, in one Data Exchange file that appears when it is whole."""
